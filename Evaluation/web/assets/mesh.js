"use strict";
/* A coloured mesh, or a cloud, to turn: new MeshView(canvas), then show(buffer) with what serve_requests.mesh_bytes
   wrote. Drag, arrow keys: turn; wheel, two fingers, + and -: zoom; double click, 0: from the front. WebGL 2, no library. */
class MeshView {
  constructor(canvas) {
    this.canvas = canvas;
    this.gl = canvas.getContext("webgl2", { antialias: true });
    if (!this.gl) throw new Error("this browser shows no 3D (WebGL 2 is missing or switched off); the files can be downloaded");
    this.clay = false;
    this.mesh = null;
    this.reset();
    this.setUp();
    this.pointers = new Map();
    canvas.addEventListener("pointerdown", e => { canvas.setPointerCapture(e.pointerId); this.pointers.set(e.pointerId, e); });
    canvas.addEventListener("pointermove", e => this.move(e));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, e => this.pointers.delete(e.pointerId));
    canvas.addEventListener("wheel", e => { e.preventDefault(); this.scale(Math.exp(-e.deltaY / 600)); }, { passive: false });
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("keydown", e => this.key(e));
    canvas.addEventListener("webglcontextlost", e => e.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => { this.setUp(); if (this.bytes) this.show(this.bytes, true); });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  setUp() {
    const gl = this.gl, program = gl.createProgram();
    const sources = [[gl.VERTEX_SHADER, `#version 300 es
      layout(location=0) in vec3 place; layout(location=1) in vec3 normal; layout(location=2) in vec4 colour;
      uniform mat3 turn; uniform vec3 centre; uniform float size, zoom, aspect;
      out vec3 n, eye; out vec4 tone;
      void main() {
        vec3 p = turn * (place - centre) / size;            // in [-1, 1], +z towards the eye
        n = turn * normal; eye = vec3(0, 0, 4) - p; tone = colour;
        float w = 4.0 - p.z;
        gl_Position = vec4(4.5 * zoom * p.x / max(aspect, 1.0), 4.5 * zoom * p.y * min(aspect, 1.0), (w - 4.0) / 2.0 * w, w);
        gl_PointSize = 2.5 * zoom;
      }`], [gl.FRAGMENT_SHADER, `#version 300 es
      precision highp float; in vec3 n, eye; in vec4 tone; uniform bool clay, cloud; out vec4 seen;
      void main() {
        vec3 base = clay ? vec3(.80, .78, .75) : tone.rgb;
        float light = 1.0;
        if (!cloud) {
          vec3 m = normalize(n) * (dot(n, eye) < 0.0 ? -1.0 : 1.0);       // both sides are lit
          float key = max(dot(m, normalize(vec3(-.35, .45, .85))), 0.0), rim = max(dot(m, normalize(vec3(.9, .1, .2))), 0.0);
          light = clay ? .22 + .72 * key + .12 * rim : .62 + .44 * key;     // photographed colours hold light already
        }
        seen = vec4(min(base * light, 1.0), 1);
      }`]];
    for (const [kind, text] of sources) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) throw new Error(gl.getProgramInfoLog(program));
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    this.at = name => gl.getUniformLocation(program, name);
  }

  show(bytes, keep = false) {
    const gl = this.gl, [count, faces, coloured] = new Uint32Array(bytes, 0, 3);
    const places = new Float32Array(bytes, 12, 3 * count), normals = new Float32Array(bytes, 12 + 12 * count, 3 * count);
    const corners = new Uint32Array(bytes, 12 + 24 * count, 3 * faces);
    const colours = coloured ? new Uint8Array(bytes, 12 + 24 * count + 12 * faces, 4 * count) : null;
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    places.forEach((v, i) => { low[i % 3] = Math.min(low[i % 3], v); high[i % 3] = Math.max(high[i % 3], v); });
    this.centre = low.map((v, i) => (v + high[i]) / 2);
    this.size = Math.hypot(...low.map((v, i) => high[i] - v)) / 2 || 1;
    for (const buffer of this.buffers || []) gl.deleteBuffer(buffer);
    this.buffers = [];
    const fill = (target, data) => {
      const buffer = gl.createBuffer();
      this.buffers.push(buffer);
      gl.bindBuffer(target, buffer);
      gl.bufferData(target, data, gl.STATIC_DRAW);
    };
    [[places, 3, gl.FLOAT, false], [normals, 3, gl.FLOAT, false], [colours, 4, gl.UNSIGNED_BYTE, true]].forEach(([data, width, kind, unit], i) => {
      if (!data) { gl.disableVertexAttribArray(i); gl.vertexAttrib4f(i, .80, .78, .75, 1); return; }
      fill(gl.ARRAY_BUFFER, data);
      gl.enableVertexAttribArray(i);
      gl.vertexAttribPointer(i, width, kind, unit, 0, 0);
    });
    fill(gl.ELEMENT_ARRAY_BUFFER, corners);
    this.bytes = bytes;
    this.mesh = { count, faces };
    if (keep) this.draw();
    else this.reset();
  }

  clear() { this.mesh = this.bytes = null; this.draw(); }

  reset() { this.yaw = this.pitch = 0; this.zoom = 1; this.draw(); }

  scale(factor) { this.zoom = Math.min(Math.max(this.zoom * factor, .4), 8); this.draw(); }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.min(Math.max(this.pitch + pitch, -Math.PI / 2), Math.PI / 2);
    this.draw();
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const apart = () => { const [a, b] = this.pointers.values(); return Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY); };
    const was = this.pointers.size === 2 ? apart() : 0;
    this.pointers.set(event.pointerId, event);
    if (was) this.scale(apart() / was);
    else if (this.pointers.size === 1) this.turn((event.clientX - before.clientX) / 150, (event.clientY - before.clientY) / 150);
  }

  key(event) {
    const turns = { ArrowLeft: [-.12, 0], ArrowRight: [.12, 0], ArrowUp: [0, -.12], ArrowDown: [0, .12] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (turns[event.key]) this.turn(...turns[event.key]);
    else if (event.key === "+" || event.key === "=") this.scale(1.1);
    else if (event.key === "-") this.scale(1 / 1.1);
    else if (event.key === "0") this.reset();
    else return;
    event.preventDefault();
  }

  draw() {
    if (!this.at || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    const gl = this.gl, canvas = this.canvas, ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (!this.mesh) return;
    const [a, b, c, d] = [Math.cos(this.yaw), Math.sin(this.yaw), Math.cos(this.pitch), Math.sin(this.pitch)];
    gl.uniformMatrix3fv(this.at("turn"), false, [a, d * b, -c * b, 0, c, d, b, -d * a, c * a]);     // Rx(pitch) Ry(yaw), by columns
    gl.uniform3fv(this.at("centre"), this.centre);
    gl.uniform1f(this.at("size"), this.size);
    gl.uniform1f(this.at("zoom"), this.zoom);
    gl.uniform1f(this.at("aspect"), width / height);
    gl.uniform1i(this.at("clay"), this.clay);
    gl.uniform1i(this.at("cloud"), this.mesh.faces === 0);
    if (this.mesh.faces) gl.drawElements(gl.TRIANGLES, 3 * this.mesh.faces, gl.UNSIGNED_INT, 0);
    else gl.drawArrays(gl.POINTS, 0, this.mesh.count);
  }
}
