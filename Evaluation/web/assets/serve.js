"use strict";
/* The page of Evaluation/web/serve.py: photos in, a face out. Whatever a server or a file says is put in with textContent. */
(() => {
  const at = id => document.getElementById(id);
  const photos = [];          // { blob, url }
  let about = null, visit = null, view = null, stream = null, busy = false;

  const say = (status, error = "") => { at("status").textContent = status; at("error").textContent = error; };
  const ask = async (path, options = {}) => {
    let answer;
    try { answer = await fetch(path, options); }
    catch { throw new Error("The program that makes the faces does not answer. Is it still running?"); }
    if (answer.ok) return answer;
    let words = "";
    try { words = (await answer.json()).error; } catch { /* no words */ }
    throw Object.assign(new Error(words || `The program answers with an error (${answer.status}).`), { status: answer.status });
  };
  const post = (path, body, headers = {}) => ask(path, { method: "POST", body, headers });

  /* Photos: chosen, dropped, pasted, or from the webcam. */
  const refresh = () => {
    at("photos").replaceChildren(...photos.map((photo, i) => {
      const item = document.createElement("li"), image = new Image(), number = document.createElement("span");
      image.src = photo.url;
      image.alt = `photo ${i + 1}`;
      number.textContent = i + 1;
      const remove = document.createElement("button");
      remove.type = "button";
      remove.textContent = "×";
      remove.ariaLabel = `remove photo ${i + 1}`;
      remove.addEventListener("click", () => { URL.revokeObjectURL(photo.url); photos.splice(photos.indexOf(photo), 1); refresh(); });
      item.append(image, number, remove);
      return item;
    }));
    at("make").disabled = busy || !photos.length || !about;
  };
  const take = files => {
    const size = () => photos.reduce((sum, photo) => sum + photo.blob.size, 0), refused = [];
    for (const file of files) {
      const name = file.name || "the photo", mb = bytes => `${Math.round(bytes / 2 ** 20)} MB`;
      if (!about) continue;
      if (file.type && !file.type.startsWith("image/")) refused.push(`${name} is no image.`);
      else if (!file.size) refused.push(`${name} is empty.`);
      else if (file.size > about.photoBytes) refused.push(`${name} has ${mb(file.size)}; a photo may have ${mb(about.photoBytes)}.`);
      else if (photos.length >= about.photos) refused.push(`A face is made from at most ${about.photos} photos.`);
      else if (size() + file.size > about.uploadBytes) refused.push(`All photos together may have ${mb(about.uploadBytes)}.`);
      else photos.push({ blob: file, url: URL.createObjectURL(file) });
    }
    say("", [...new Set(refused)].join(" "));
    refresh();
  };
  at("files").addEventListener("change", () => { take(at("files").files); at("files").value = ""; });
  for (const kind of ["dragover", "dragleave", "drop"]) document.addEventListener(kind, event => {
    event.preventDefault();         // a photo dropped beside the box must not replace the page
    at("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files);
  });
  document.addEventListener("paste", event => { if (event.clipboardData.files.length) take(event.clipboardData.files); });

  const off = () => {
    if (stream) for (const track of stream.getTracks()) track.stop();
    stream = at("video").srcObject = null;
    at("camera").hidden = true;
    at("webcam").hidden = false;
  };
  if (!navigator.mediaDevices) {
    at("webcam").disabled = true;
    at("webcam").title = "Browsers open a webcam only for pages on this machine (localhost) or with https.";
  }
  at("webcam").addEventListener("click", async () => {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" } });
      at("video").srcObject = stream;
      at("camera").hidden = false;
      at("webcam").hidden = true;
      say("");
    } catch (error) {
      const words = { NotAllowedError: "The browser did not allow the webcam.", NotFoundError: "There is no webcam.",
                      NotReadableError: "Another program uses the webcam." };
      say("", words[error.name] || "The webcam cannot be opened.");
    }
  });
  at("off").addEventListener("click", off);
  at("snap").addEventListener("click", () => {
    const video = at("video"), canvas = document.createElement("canvas");
    if (!video.videoWidth) return;
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob(blob => take([new File([blob], "the webcam's photo", { type: "image/jpeg" })]), "image/jpeg", .92);
  });

  /* The face. */
  const words = { "face.ply": ".ply, coloured", "face.zip": ".obj with texture (.zip)", "face.glb": ".glb, textured" };
  const links = files => at("downloads").replaceChildren(...Object.entries(files).map(([name, size]) => {
    const link = document.createElement("a");
    link.href = `/visit/${visit}/${name}`;
    link.download = name;
    link.className = "file";
    link.textContent = `${Object.hasOwn(words, name) ? words[name] : name} · ${(size / 1e6).toFixed(1)} MB`;
    return link;
  }));
  const forget = () => { links({}); at("below").hidden = true; if (view) view.clear(); };
  const send = async () => {
    if (!visit) visit = (await (await post("/visit")).json()).visit;
    const sizes = photos.map(photo => photo.blob.size).join(",");
    return (await post(`/visit/${visit}/face?network=${encodeURIComponent(at("network").value)}`,
                       new Blob(photos.map(photo => photo.blob)), { "X-Photo-Sizes": sizes })).json();
  };
  const make = async () => {
    busy = true;
    refresh();
    const began = Date.now(), count = photos.length;
    const tell = () => say(`Making the face from ${count} photo${count > 1 ? "s" : ""} … ${Math.round((Date.now() - began) / 1000)} s`);
    tell();
    const clock = setInterval(tell, 1000);
    try {
      let made;
      try { made = await send(); }
      catch (error) {
        if (error.status !== 404) throw error;
        visit = null;           // it was forgotten while nobody looked
        made = await send();
      }
      const bytes = await (await ask(`/visit/${visit}/mesh.bin`)).arrayBuffer();
      clearInterval(clock);
      links(made.files);
      const skipped = made.skipped.map(i => i + 1);
      say(`A face of ${made.points.toLocaleString("en")} points from ${count - skipped.length} photo${count - skipped.length > 1 ? "s" : ""}, `
          + `in ${((Date.now() - began) / 1000).toFixed(1)} s.`
          + (skipped.length ? ` No face was found in photo ${skipped.join(", ")}: left out.` : ""));
      if (!view) view = new MeshView(at("canvas"));
      view.show(bytes);
      at("below").hidden = false;
    } catch (error) {
      clearInterval(clock);
      if (!(view === null && at("downloads").children.length)) forget();
      say("", error.message);
    } finally {
      clearInterval(clock);
      busy = false;
      refresh();
    }
  };
  at("make").addEventListener("click", make);
  at("clay").addEventListener("change", () => { if (view) { view.clay = at("clay").checked; view.draw(); } });
  const describe = () => { at("about-network").textContent = about.networks[at("network").value]; };
  at("network").addEventListener("change", describe);

  /* The visit: it ends when the page is left, and a page that came back from the browser's memory begins anew. */
  setInterval(() => {
    if (visit) post(`/visit/${visit}/stay`).catch(error => {
      if (error.status === 404 && !busy) { visit = null; forget(); say("This face is no longer kept. Make it again to download it."); }
    });
  }, 60000);
  window.addEventListener("pagehide", () => { off(); if (visit) navigator.sendBeacon(`/visit/${visit}/leave`); });
  window.addEventListener("pageshow", event => { if (event.persisted) location.reload(); });

  (async () => {
    const here = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
    at("promise").textContent = `Photos go to the program on ${here ? "this machine" : location.hostname} and nowhere else. They are `
      + "forgotten as soon as the face is made, and the face when you leave this page; neither is written to a disk there.";
    try {
      about = await (await ask("/about")).json();
      for (const name of Object.keys(about.networks)) at("network").add(new Option(name, name));
      describe();
      refresh();
    } catch (error) { say("", error.message); }
  })();
})();
