// Shows what the server sends, and sends what is turned. Every message of the server is binary: the
// length of a JSON text, that text, and the pixels of the tiles that changed, RGB.
"use strict";

const $ = (id) => document.getElementById(id);
const TILE = 32;
const COLOURS = ["#3b82d6", "#d97f12", "#2f9e60", "#b457c9", "#c9a40b", "#e0527a", "#12a3a8", "#8a6d4d"];
const REASONS = { load: "#3b82d6", pio: "#12a3a8", no_zone: "#d97f12", straddle: "#b457c9", ring_full: "#e0527a", hlt: "#8a8f98", queued: "#2f9e60" };
const WORDS = { load: "loads", pio: "ports", no_zone: "no zone", straddle: "straddles", ring_full: "ring full", hlt: "halt", queued: "queued writes" };
const MODES = { running: "running at full speed", slow: "running slowly", paused: "paused", pausing: "about to pause", ended: "ended" };
let socket, state = null, framesShown = 0;
const decoder = new TextDecoder();

function connect() {
  socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/[^/]*$/, "") + "socket");
  socket.binaryType = "arraybuffer";
  socket.onopen = () => { asked.clear(); $("alert").hidden = true; look(); };
  socket.onmessage = (event) => take(event.data);
  socket.onclose = (event) => {
    $("alert").textContent = event.code === 4001 || event.code === 1012
      ? "The program has ended. The page shows its last state."
      : "No connection to the program. Trying again.";
    $("alert").hidden = false;
    document.body.dataset.closed = event.code;
    if (event.code !== 4001 && event.code !== 1012) setTimeout(connect, 1000);
  };
}

function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

// --- a recording: states with their times, in the page itself ---

async function play() {
  const packed = Uint8Array.from(atob($("recording").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = await new Response(stream).arrayBuffer(), view = new DataView(data);
  const frames = [];
  for (let at = 0; at < data.byteLength;) {
    const length = view.getUint32(at + 4, true);
    frames.push({ time: view.getUint32(at, true), data: data.slice(at + 8, at + 8 + length) });
    at += 8 + length;
  }
  const bar = $("moment"), end = frames.length ? frames[frames.length - 1].time : 0;
  let shown = -1, began = 0, playing = false;
  const seconds = (time) => (time / 1000).toFixed(1);
  const to = (time) => { // what changed on the screen meanwhile is drawn, too
    if (time < (frames[shown]?.time ?? 0)) shown = -1;
    while (shown + 1 < frames.length && frames[shown + 1].time <= time) { shown += 1; take(frames[shown].data); }
    bar.value = time;
    put("moment-text", `${seconds(time)} of ${seconds(end)} s`);
    bar.setAttribute("aria-valuetext", $("moment-text").textContent);
  };
  const run = (on) => { playing = on; put("play", on ? "Pause" : "Play"); };
  const tick = () => {
    if (!playing) return;
    const time = Math.min(end, performance.now() - began);
    to(time);
    if (time >= end) run(false); else requestAnimationFrame(tick);
  };
  $("play").onclick = () => {
    if (playing) { run(false); return; }
    began = performance.now() - (Number(bar.value) >= end ? 0 : Number(bar.value));
    run(true);
    tick();
  };
  bar.max = end;
  bar.oninput = () => { run(false); to(Number(bar.value)); };
  for (const id of ["trace", "perfetto", "keep"]) $(id).closest("p").hidden = true;
  $("player").hidden = false;
  to(0);
}

function recordedSlot() {
  const slot = Number($("slot").value), { first, pending } = ring();
  const number = (slot - first + state.slots) % state.slots;
  const entry = number < pending && (state.entries[which()] || [])[number];
  if (!entry) return { slot };
  const [address, size, pio, value] = entry;
  const within = ([start, length, port]) => port === !!pio && address >= start && address < start + length;
  const region = state.regions.find((each) => each.zones.some(within));
  return { slot, name: region ? region.name : "", address: `0x${address.toString(16)}`, size, value: `0x${value.toString(16)}` };
}

function take(data) {
  const length = new DataView(data).getUint32(0, true);
  state = JSON.parse(decoder.decode(new Uint8Array(data, 4, length)));
  drawTiles(new Uint8Array(data, 4 + length));
  window.state = state;
  framesShown += 1;
  document.body.dataset.frames = framesShown;
  if (framesShown === 1 || !show.waiting) { show.waiting = true; requestAnimationFrame(show); }
}

function drawTiles(pixels) {
  const { width, height, tiles } = state.screen;
  const canvas = $("screen");
  if (!width) return;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  const context = canvas.getContext("2d");
  const across = Math.ceil(width / TILE);
  let from = 0;
  for (const tile of tiles) {
    const left = (tile % across) * TILE, top = Math.floor(tile / across) * TILE;
    const w = Math.min(TILE, width - left), h = Math.min(TILE, height - top);
    const image = context.createImageData(w, h);
    for (let to = 0; to < w * h * 4; to += 4, from += 3) {
      image.data[to] = pixels[from]; image.data[to + 1] = pixels[from + 1];
      image.data[to + 2] = pixels[from + 2]; image.data[to + 3] = 255;
    }
    context.putImageData(image, left, top);
  }
}

function show() {
  show.waiting = false;
  if (!show.started) {
    choose($("pages"), state.pages, (pages) => `${pages} pages`);
    $("wait").value = state.wait; show.started = true;
  }
  $("name").textContent = state.name;
  put("task", state.task); $("task").hidden = !state.task;
  document.title = `coalesced live: ${state.name}`;
  put("mode", state.end || MODES[state.mode] + (state.rate ? `, ${state.rate} a second` : ""));
  $("mode").dataset.mode = state.mode;
  showKnobs(); showRing(); showCounts(); showMinute(); showTold(); showBroken();
}

function choose(select, value, name) { // a value of the command line may be none of those offered
  if (![...select.options].some((option) => option.value === String(value))) select.add(new Option(name(value), value));
  select.value = value;
}

function put(id, text) { if ($(id).textContent !== text) $(id).textContent = text; }

const asked = new Map(); // regions that were clicked, until the machine has followed
function showKnobs() {
  const ended = state.mode === "ended";
  for (const control of $("knobs").querySelectorAll("button, select, input")) {
    const still = ["again", "quit", "pages", "wait"].includes(control.id);
    control.disabled = !state.may_turn || (ended && !still);
  }
  $("run").disabled ||= state.mode === "running";
  put("step", state.step === "exit" ? "To the next exit" : "Step");
  put("step50", state.step === "exit" ? "50 exits on" : "50 steps");
  $("pause").setAttribute("aria-pressed", state.mode === "paused" || state.mode === "pausing");
  if ($("speed") !== document.activeElement && ["running", "slow"].includes(state.mode)) $("speed").value = state.rate || "";
  if ($("staleness") !== document.activeElement) choose($("staleness"), state.staleness ?? "", (ms) => `${ms} ms`);
  $("keys").hidden = !state.may_turn;
  $("keep").disabled = !state.may_turn || ended;
  const box = $("regions");
  const names = state.regions.map((region) => region.name).join("\n");
  if (box.dataset.names !== names) {
    box.dataset.names = names;
    for (const label of box.querySelectorAll("label")) label.remove();
    for (const region of state.regions) {
      const label = document.createElement("label"), input = document.createElement("input");
      input.type = "checkbox"; input.name = region.name;
      input.onchange = () => {
        asked.set(region.name, input.checked);
        send({ do: "coalesce", region: region.name, on: input.checked });
      };
      label.append(input, " ", region.name);
      box.append(label);
    }
  }
  for (const region of state.regions) {
    const input = [...box.querySelectorAll("input")].find((each) => each.name === region.name);
    // States that were on their way do not undo a click.
    if (asked.get(region.name) === region.on) asked.delete(region.name);
    if (!asked.has(region.name)) input.checked = region.on;
    input.disabled = !state.may_turn || ended;
  }
}

// --- the ring: a circle of slots, several circles inside each other for a long one ---

const PER_CIRCLE = 340;
function place(slot, slots) {
  const circles = Math.ceil(slots / PER_CIRCLE), per = Math.ceil(slots / circles);
  const circle = Math.floor(slot / per), at = slot % per;
  const width = Math.min(26, 140 / circles);
  return { from: (at / per) * 2 * Math.PI - Math.PI / 2, to: ((at + 1) / per) * 2 * Math.PI - Math.PI / 2, radius: 190 - circle * width, width };
}

const rings = () => [{ name: "vm", first: state.first, last: state.last, pending: state.pending, letters: state.letters, oldest: state.oldest }, ...state.own];
const which = () => Math.max(0, $("which").selectedIndex); // 0 is the VM's ring, the others are devices' own
const ring = () => rings()[which()] || rings()[0];

function showRings() { // which there are, and how full each is
  const all = rings(), key = all.map((each) => each.name).join("\n");
  $("rings").hidden = all.length === 1;
  if ($("which").dataset.key !== key) {
    const chosen = $("which").value;
    $("which").dataset.key = key;
    $("which").replaceChildren(...all.map((each) => new Option(each.name)));
    if (all.some((each) => each.name === chosen)) $("which").value = chosen;
    $("fills").replaceChildren(...all.map((each) => {
      const item = document.createElement("li"), meter = document.createElement("meter");
      meter.max = state.slots - 1;
      meter.setAttribute("aria-label", `${each.name}, slots in use`);
      item.append(meter, " ", document.createElement("span"));
      return item;
    }));
    look();
  }
  all.forEach((each, number) => {
    const [meter, text] = $("fills").children[number].children;
    meter.value = each.pending;
    text.textContent = `${each.name}: ${each.pending} of ${state.slots - 1}`;
  });
}

function showRing() {
  const canvas = $("ring"), context = canvas.getContext("2d");
  const style = getComputedStyle(document.body);
  const line = style.getPropertyValue("--line"), ink = style.getPropertyValue("--ink");
  showRings();
  const { slots } = state, { first, last, pending, letters, oldest } = ring();
  context.clearRect(0, 0, 420, 420);
  const wedge = (slot, colour, more = 0) => {
    const { from, to, radius, width } = place(slot, slots);
    context.fillStyle = colour;
    context.beginPath();
    context.arc(210, 210, radius + more, from, to);
    context.arc(210, 210, radius - width + 2 - more, to, from, true);
    context.fill();
  };
  for (let slot = 0; slot < slots; slot += 1) wedge(slot, line);
  for (let number = 0; number < pending; number += 1) {
    const region = letters.charCodeAt(number) - 97;
    wedge((first + number) % slots, region < 25 ? COLOURS[region % COLOURS.length] : ink);
  }
  pointer(context, place(first, slots), "first", ink);
  pointer(context, place(last, slots), "last", ink);
  const chosen = Number($("slot").value);
  if (chosen < slots) { context.globalAlpha = 0.75; wedge(chosen, ink, 3); context.globalAlpha = 1; }
  context.fillStyle = ink; context.textAlign = "center"; context.font = "600 26px system-ui, sans-serif";
  context.fillText(String(pending), 210, 212);
  context.font = "14px system-ui, sans-serif"; context.fillText("queued", 210, 232);
  const old = oldest === null ? "" : ` The oldest has been seen for ${oldest.toFixed(1)} s.`;
  put("ring-text", `first ${first}, last ${last}: ${pending} of ${slots - 1} slots in use.${old}`);
  canvas.setAttribute("aria-label", `The ring: ${$("ring-text").textContent}`);
  legend("legend", state.regions.map((region, number) => [region.name, COLOURS[number % COLOURS.length]]));
  if (Number($("slot").max) !== slots - 1) $("slot").max = slots - 1;
  const slot = state.entries ? recordedSlot() : state.slot;
  put("slot-text", !slot ? "" : slot.name === undefined ? `Slot ${slot.slot} is free.`
    : `Slot ${slot.slot}: ${slot.name} (${slot.address}), ${slot.size} byte${slot.size > 1 ? "s" : ""}, value ${slot.value}${slot.age === undefined ? "" : `, seen for ${slot.age.toFixed(1)} s`}.`);
}

function pointer(context, { from, radius }, text, ink) {
  const x = 210 + Math.cos(from) * (radius + 3), y = 210 + Math.sin(from) * (radius + 3);
  context.strokeStyle = ink; context.lineWidth = 3;
  context.beginPath();
  context.moveTo(210 + Math.cos(from) * (radius - 40), 210 + Math.sin(from) * (radius - 40));
  context.lineTo(x, y); context.stroke();
  context.fillStyle = ink; context.font = "13px system-ui, sans-serif"; context.textAlign = "center";
  const out = text === "last" ? -56 : 14;
  context.fillText(text, 210 + Math.cos(from) * (radius + out), 214 + Math.sin(from) * (radius + out));
}

function legend(id, rows) {
  const key = JSON.stringify(rows);
  if ($(id).dataset.key === key) return;
  $(id).dataset.key = key;
  $(id).replaceChildren(...rows.map(([name, colour]) => {
    const item = document.createElement("li"), dot = document.createElement("span");
    dot.className = "dot"; dot.style.background = colour;
    item.append(dot, name);
    return item;
  }));
}

// --- counts ---

function showCounts() {
  const n = (value) => value.toLocaleString("en");
  const rows = { "writes": n(state.writes), "queued: round trips saved": n(state.coalesced), [`time saved, at ${(state.price * 1e6).toFixed(1)} µs an exit`]: `${state.saved.toFixed(3)} s`, "exits": n(state.exits) };
  for (const [reason, word] of Object.entries(WORDS)) {
    if (reason !== "queued") rows[`exits: ${word}`] = n(state.exits_by[reason] || 0);
  }
  if (state.stale_drains) rows["drains without an exit"] = n(state.stale_drains);
  if (state.failed) rows["device errors"] = n(state.failed);
  const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(value)} %`);
  rows["CPU of the guest"] = percent(state.cpu.hv);
  rows["CPU of the VMM"] = percent(state.cpu.vmm);
  rows["the page, of the VMM's time"] = percent(state.cpu.page);
  const list = $("counts");
  for (const [name, value] of Object.entries(rows)) {
    let cell = [...list.querySelectorAll("dd")].find((each) => each.dataset.name === name);
    if (!cell) {
      const term = document.createElement("dt");
      cell = document.createElement("dd");
      term.textContent = name; cell.dataset.name = name;
      list.append(term, cell);
    }
    if (cell.textContent !== value) cell.textContent = value;
  }
  for (const cell of list.querySelectorAll("dd")) {
    if (!(cell.dataset.name in rows)) { cell.previousSibling.remove(); cell.remove(); }
  }
  const hot = state.hottest.map(([name, exits]) => `${name}: ${n(exits)}`);
  if ($("hottest").dataset.key !== hot.join("\n")) {
    $("hottest").dataset.key = hot.join("\n");
    $("hottest").replaceChildren(...hot.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }
}

function showMinute() {
  const context = $("minute").getContext("2d");
  context.clearRect(0, 0, 420, 120);
  const names = Object.keys(REASONS).filter((name) => state.minute.some((row) => row[name]));
  const top = Math.max(1, ...state.minute.flatMap((row) => names.map((name) => row[name] || 0)));
  for (const name of names) {
    context.strokeStyle = REASONS[name]; context.lineWidth = 2;
    context.beginPath();
    state.minute.forEach((row, at) => {
      const x = 420 - (state.minute.length - at) * 7, y = 116 - ((row[name] || 0) / top) * 108;
      context[at ? "lineTo" : "moveTo"](x, y);
      if (state.minute.length === 1) context.lineTo(x + 6, y);
    });
    context.stroke();
  }
  const newest = state.minute[state.minute.length - 1] || {};
  legend("minute-legend", names.map((name) => [`${WORDS[name]}: ${Math.round(newest[name] || 0).toLocaleString("en")} a second`, REASONS[name]]));
}

function showTold() {
  const list = $("told");
  const known = Number(list.dataset.newest || 0);
  const newest = state.told.length ? state.told[state.told.length - 1][0] : 0;
  if (newest === known) return;
  list.dataset.newest = newest;
  list.replaceChildren(...state.told.map(([number, text]) => {
    const item = document.createElement("li");
    item.value = number; item.textContent = text;
    return item;
  }));
  $("log").scrollTop = $("log").scrollHeight;
}

function showBroken() {
  const { barriers, barrier, busy, litmus, steps, stress } = state.breaking;
  if (!$("barrier").options.length) $("barrier").replaceChildren(...barriers.map((name) => new Option(name)));
  $("break").disabled = $("barrier").disabled = !state.may_turn || busy;
  $("break-box").hidden = Boolean(state.entries) && !barrier;
  put("broken", !barrier ? "" : [`Without ${barrier}:`, litmus, busy ? "Running…" : stress].filter(Boolean).join(" "));
  $("witness-box").hidden = !steps || !steps.length;
  const key = JSON.stringify(steps || []);
  if ($("witness").dataset.key === key) return;
  $("witness").dataset.key = key;
  $("witness").tBodies[0].replaceChildren(...(steps || []).map(([thread, text]) => {
    const row = document.createElement("tr");
    row.append(...[0, 1].map((column) => Object.assign(document.createElement("td"), { textContent: column === thread ? text : "" })));
    return row;
  }));
}

// --- what is turned ---

function look() { if (!socket) { if (state) requestAnimationFrame(showRing); return; } send({ do: "look", ring: which(), slot: Number($("slot").value) }); }
$("run").onclick = () => { $("speed").value = ""; send({ do: "run" }); };
$("pause").onclick = () => send({ do: "pause" });
$("step").onclick = () => send({ do: "step", count: 1 });
$("step50").onclick = () => send({ do: "step", count: 50 });
$("drain").onclick = () => send({ do: "drain" });
$("again").onclick = () => send({ do: "again", pages: Number($("pages").value), wait: $("wait").value });
$("quit").onclick = () => send({ do: "quit" });
$("speed").onchange = () => send($("speed").value ? { do: "speed", rate: Number($("speed").value) } : { do: "run" });
$("staleness").onchange = () => send({ do: "staleness", ms: $("staleness").value ? Number($("staleness").value) : null });
$("keep").onchange = () => send({ do: "keep", on: $("keep").checked });
$("break").onclick = () => send({ do: "break", barrier: $("barrier").value });
$("slot").oninput = look;
$("which").onchange = () => { look(); if (state) showRing(); };
$("ring").onmousemove = (event) => {
  if (!state) return;
  const box = $("ring").getBoundingClientRect(), scale = 420 / box.width;
  const x = (event.clientX - box.left) * scale - 210, y = (event.clientY - box.top) * scale - 210;
  const turn = (Math.atan2(y, x) + Math.PI / 2 + 2 * Math.PI) % (2 * Math.PI);
  const circles = Math.ceil(state.slots / PER_CIRCLE), per = Math.ceil(state.slots / circles);
  const { width } = place(0, state.slots);
  const circle = Math.min(circles - 1, Math.max(0, Math.floor((190 - Math.hypot(x, y)) / width)));
  const slot = circle * per + Math.floor((turn / (2 * Math.PI)) * per);
  if (slot < state.slots && slot !== Number($("slot").value)) { $("slot").value = slot; look(); }
};
for (const [type, down] of [["keydown", true], ["keyup", false]]) {
  $("screen").addEventListener(type, (event) => {
    if (event.key === "Tab" || event.metaKey || !state || !state.may_turn) return;
    event.preventDefault();
    if (!event.repeat) send({ do: "key", code: event.code, down });
  });
}
$("png").onclick = () => { $("png").href = $("screen").toDataURL("image/png"); };
if ($("recording")) play(); else connect();
