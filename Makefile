# Two commands on a fresh Debian/Ubuntu machine:  make demo   make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LIBRARIES := python3-venv libusb-1.0-0 libgl1 libegl1 libgomp1 libglib2.0-0
# For the tests of the two web pages. Where they cannot be installed (Ubuntu's are snaps), those tests are skipped.
BROWSER := chromium chromium-driver
export TF_CPP_MIN_LOG_LEVEL ?= 2
export TF_ENABLE_ONEDNN_OPTS ?= 1

.PHONY: demo thomassen ronkainen baby jackson endrawis test test-slow durations bench lint install clean

install: $(VENV)/.installed

# The stamp depends on setup.cfg: a changed dependency is installed by the next make.
$(VENV)/.installed: setup.cfg
	@sh .ci/system-libraries $(LIBRARIES)
	@sh .ci/find-python $(PYTHON) > /dev/null
	"$$(sh .ci/find-python $(PYTHON))" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --prefer-binary -e '.[test]'
	touch $@

# Minutes on two cores: render subjects, train, evaluate, and reconstruct a photo: by the network that was trained for a
# minute as demo_quick.ply, by the bundled one as demo.ply. Killed, it continues.
DEMO := runs/demo
demo: $(VENV)/.installed
	$(BIN)/python -m Dataset.synthetic $(DEMO)/data --subjects 160 --images 8 --seed 0 --size 64 --points 1024 \
	    --yaw 25 --pitch 10 --roll 10 --workers 2
	$(BIN)/python train.py $(DEMO)/data --preset quick --run $(DEMO)/run --resume
	$(BIN)/python evaluate.py --data $(DEMO)/data --model $(DEMO)/run --results $(DEMO)/test
	$(BIN)/python evaluate.py --data $(DEMO)/data --model $(DEMO)/run --table 2 --no-surface --results $(DEMO)/table2
	$(BIN)/python demo.py --example --model $(DEMO)/run -o demo_quick.ply
	$(BIN)/python demo.py --example -o demo.ply

# A paper's data, training, tables and figures in one report.html. SCALE=tiny|small|paper; TRAIN=1: train, though weights
# are bundled. Killed, it continues.
SCALE ?= small
PAPER = $(BIN)/python -m Evaluation.papers $@ --scale $(SCALE) $(if $(TRAIN),--train)
thomassen: $(VENV)/.installed
	$(PAPER)
ronkainen: $(VENV)/.installed
	$(PAPER)
baby: $(VENV)/.installed
	$(PAPER)
jackson: $(VENV)/.installed
	$(PAPER)
endrawis: $(VENV)/.installed
	$(PAPER)

test: $(VENV)/.installed
	@sh .ci/system-libraries $(BROWSER) || echo "no Chromium: the tests of the web pages are skipped" >&2
	$(BIN)/python -m pytest $(PYTEST)

# The longest files first (tests/durations.json), so that the workers end at nearly the same time.
PYTEST := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "not slow and not bench"

# The tests, and a new record of what each file takes; on a quiet machine.
durations: $(VENV)/.installed
	$(BIN)/python -m pytest $(PYTEST) --record-durations

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m "slow"

# scikit-learn is only for the literal port of the published evaluation, which queries its trees.
bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[bench]'
	$(BIN)/python -m tests.bench.network_step --memory
	$(BIN)/python -m tests.bench.evaluation
	$(BIN)/python -m tests.bench.generators
	$(BIN)/python -m tests.bench.normalisation
	$(BIN)/python -m tests.bench.streaming
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.render
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.augment
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench.registration

lint: $(VENV)/.installed
	$(BIN)/python -m flake8

clean:
	rm -rf build *.egg-info .pytest_cache
