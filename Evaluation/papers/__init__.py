"""The five papers, each reproduced by one command: data, training, tables and figures, beside the paper's numbers."""
