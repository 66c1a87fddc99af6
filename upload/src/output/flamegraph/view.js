
// Zoom, search and keyboard of the flame graph. Names are read from the document, and only ever
// written as text.
(function () {
  const SVG = "http://www.w3.org/2000/svg", HTML = "http://www.w3.org/1999/xhtml";
  const MARGIN = 10, INDENT = 3, NARROWEST = 0.2, CONTROLS = 320;
  const HINT = "Wide is much CPU time. Click a frame to zoom, / to search, Escape to go back.";
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const frames = byId("frames"), header = byId("header"), details = byId("details");
  const heading = byId("title"), headingText = document.querySelector("title").textContent;
  const isBottomUp = root.getAttribute("data-direction") === "bottom-up";
  const framesTop = Number(frames.getAttribute("y"));
  const framesHeight = Number(frames.getAttribute("height"));

  const all = readFrames();
  let zoomed = all[0], current = null, term = "", scale = 1, scrolled = 0;
  const characterWidth = measureCharacter();
  const controls = addControls();

  // Reads the frames; each comes after its caller.
  function readFrames() {
    const callers = [];
    return Array.from(frames.children, (g, index) => {
      const [title, rect] = g.children;
      let text = g.children[2];
      if (!text) {
        text = document.createElementNS(SVG, "text");
        text.setAttribute("y", Number(rect.getAttribute("y")) + 12);
        g.appendChild(text);
      }
      const x = Number(g.dataset.x), width = Number(g.dataset.w), depth = Number(g.dataset.d);
      const lines = title.textContent.split("\n");
      const caller = callers[depth - 1] || null;
      const frame = { index, g, title, rect, text, lines, x, width, depth, caller, calls: [] };
      if (caller) caller.calls.push(frame);
      callers[depth] = frame;
      g.setAttribute("role", "treeitem");
      g.setAttribute("aria-level", String(depth + 1));
      return frame;
    });
  }

  function measureCharacter() {
    const text = document.createElementNS(SVG, "text");
    text.textContent = "M".repeat(100);
    root.appendChild(text);
    const width = text.getComputedTextLength() / 100;
    text.remove();
    return width || 7.25;
  }

  function isWithin(frame, outer) {
    return frame.x >= outer.x && frame.x + frame.width <= outer.x + outer.width;
  }

  function isVisible(frame) {
    return frame.depth < zoomed.depth ? isWithin(zoomed, frame) : isWithin(frame, zoomed);
  }

  function percent(part, whole) { return (100 * part / (whole || 1)).toFixed(2) + " %"; }

  // Places every frame for the current zoom and width.
  function render() {
    const width = Math.max(300, root.clientWidth || window.innerWidth) - 2 * MARGIN;
    frames.setAttribute("width", width);
    scale = width / (zoomed.width || 1);
    for (const frame of all) {
      const isParent = frame.depth < zoomed.depth;
      const left = isParent ? 0 : (frame.x - zoomed.x) * scale;
      const pixels = isParent ? width : frame.width * scale;
      const isHidden = !isVisible(frame) || pixels < NARROWEST;
      frame.g.classList.toggle("hidden", isHidden);
      if (isHidden) continue;
      frame.g.classList.toggle("parent", isParent);
      frame.rect.setAttribute("x", left);
      frame.rect.setAttribute("width", pixels);
      frame.text.setAttribute("x", left + INDENT);
      const columns = Math.floor((pixels - 2 * INDENT) / characterWidth);
      frame.text.textContent = names.fitName(frame.lines[0], columns);
    }
    const titleCharacter = characterWidth * 16 / 12;
    heading.textContent = names.fit(headingText, Math.floor((width - CONTROLS) / titleCharacter));
    controls.place(width + 2 * MARGIN);
    showMatches();
  }

  function describe(frame) {
    const lines = frame.lines.slice();
    if (zoomed !== all[0]) lines[1] += ", " + percent(frame.width, zoomed.width) + " of the zoom";
    return lines;
  }

  function show(frame) {
    if (current) current.g.classList.remove("current");
    current = frame;
    if (!frame) { details.textContent = HINT; return; }
    frame.g.classList.add("current");
    const lines = describe(frame);
    frame.title.textContent = lines.join("\n");
    const columns = Math.floor((root.clientWidth - 2 * MARGIN) / characterWidth);
    details.textContent = names.fit(lines.slice(1).concat(lines[0]).join(" \u00b7 "), columns);
  }

  function zoom(frame) {
    zoomed = frame;
    render();
    if (current) show(current);
    controls.reset.classList.toggle("hidden", frame === all[0]);
    saveState();
  }

  function expression(text) {
    try { return new RegExp(text, "i"); } catch (error) { return null; }
  }

  function matches(frame, pattern) {
    const text = frame.lines[0] + "\n" + (frame.lines[2] || "");
    return pattern ? pattern.test(text) : text.toLowerCase().includes(term.toLowerCase());
  }

  // Marks the frames that match the search, and shows their part of the zoom.
  function showMatches() {
    const pattern = expression(term);
    let found = 0, end = -1;
    for (const frame of all) {
      const isMatch = term !== "" && matches(frame, pattern);
      frame.g.classList.toggle("hit", isMatch);
      frame.g.classList.toggle("other", term !== "" && !isMatch);
      if (isMatch && frame.depth < zoomed.depth && isWithin(zoomed, frame)) {
        found = zoomed.width;
        end = zoomed.x + zoomed.width;
      } else if (isMatch && isWithin(frame, zoomed) && frame.x >= end) {
        found += frame.width;
        end = frame.x + frame.width;
      }
    }
    controls.matched.textContent = term === "" ? "" : percent(found, zoomed.width) + " matched";
  }

  function search(text) {
    term = text;
    showMatches();
    saveState();
  }

  function button(text, action) {
    const element = document.createElementNS(SVG, "text");
    element.textContent = text;
    element.setAttribute("class", "button");
    element.setAttribute("role", "button");
    element.setAttribute("tabindex", "0");
    element.setAttribute("y", "21");
    element.addEventListener("click", action);
    element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") action();
    });
    header.appendChild(element);
    return element;
  }

  // Adds what only works with this script: search, and the way back from a zoom.
  function addControls() {
    const place = document.createElementNS(SVG, "foreignObject");
    const input = document.createElementNS(HTML, "input");
    input.setAttribute("type", "search");
    input.setAttribute("placeholder", "search (regexp)");
    input.setAttribute("aria-label", "search functions and modules");
    input.addEventListener("input", () => search(input.value));
    place.setAttribute("width", "204");
    place.setAttribute("height", "24");
    place.setAttribute("y", "5");
    place.appendChild(input);
    header.appendChild(place);
    const matched = document.createElementNS(SVG, "text");
    matched.setAttribute("id", "matched");
    matched.setAttribute("text-anchor", "end");
    matched.setAttribute("y", "40");
    matched.setAttribute("aria-live", "polite");
    header.appendChild(matched);
    const reset = button("reset zoom", () => zoom(all[0]));
    reset.setAttribute("text-anchor", "end");
    reset.classList.add("hidden");
    return {
      input, matched, reset,
      place(width) {
        place.setAttribute("x", width - MARGIN - 204);
        matched.setAttribute("x", width - MARGIN);
        reset.setAttribute("x", width - MARGIN - 216);
      },
    };
  }

  // The address keeps zoom and search, so that a view can be passed on.
  function saveState() {
    const state = new URLSearchParams();
    if (zoomed !== all[0]) state.set("zoom", String(zoomed.index));
    if (term !== "") state.set("search", term);
    try {
      history.replaceState(null, "", "#" + state);
    } catch (error) { /* some viewers have no history */ }
  }

  function restoreState() {
    const state = new URLSearchParams(window.location.hash.slice(1));
    term = state.get("search") || "";
    controls.input.value = term;
    zoom(all[Number(state.get("zoom"))] || all[0]);
  }

  function frameOf(target) {
    const g = target instanceof Element && target.closest("#frames > g");
    return g ? all[Array.prototype.indexOf.call(frames.children, g)] : null;
  }

  // Returns the frame that an arrow key leads to.
  function neighbour(frame, key) {
    const isInward = key === (isBottomUp ? "ArrowUp" : "ArrowDown");
    if (isInward) return frame.calls.find((call) => !call.g.classList.contains("hidden"));
    if (key === "ArrowUp" || key === "ArrowDown") return frame.caller;
    const row = all.filter((one) => one.depth === frame.depth && isVisible(one));
    return row[row.indexOf(frame) + (key === "ArrowRight" ? 1 : -1)];
  }

  function onKey(event) {
    const isFind = event.key === "F3" || (event.ctrlKey && event.key === "f");
    if (isFind || (event.key === "/" && event.target !== controls.input)) {
      event.preventDefault();
      controls.input.focus();
    } else if (event.key === "Escape") {
      if (term !== "") { controls.input.value = ""; search(""); } else { zoom(all[0]); }
      controls.input.blur();
    } else if (event.target === controls.input) {
      return;
    } else if (event.key === "Enter" && current && event.target === root) {
      zoom(current);
    } else if (isBottomUp && (event.key === "PageUp" || event.key === "PageDown")) {
      scrollUpwards((event.key === "PageUp" ? 0.8 : -0.8) * window.innerHeight);
    } else if (event.key.startsWith("Arrow")) {
      const next = current ? neighbour(current, event.key) : zoomed;
      if (!next) return;
      event.preventDefault();
      show(next);
      scrollTo(next);
    }
  }

  function keepHeaderInView() {
    header.setAttribute("transform", "translate(0," + window.scrollY + ")");
  }

  // Scrolls a picture that grows upwards. Its root, where reading starts, is at the bottom of the
  // window; browsers open a page at its top, so that the picture moves and the page does not.
  function scrollUpwards(pixels) {
    const room = window.innerHeight - framesTop - MARGIN;
    scrolled = Math.max(0, Math.min(framesHeight - room, scrolled + pixels));
    root.setAttribute("height", window.innerHeight);
    frames.setAttribute("y", framesTop + room - framesHeight + scrolled);
  }

  function scrollTo(frame) {
    if (!isBottomUp) { frame.g.scrollIntoView({ block: "nearest" }); return; }
    const top = Number(frame.rect.getAttribute("y")) + Number(frames.getAttribute("y"));
    if (top < framesTop) scrollUpwards(framesTop - top);
    if (top > window.innerHeight - 40) scrollUpwards(window.innerHeight - 40 - top);
  }

  root.removeAttribute("viewBox");
  root.setAttribute("width", "100%");
  root.setAttribute("tabindex", "0");
  frames.setAttribute("role", "tree");
  frames.setAttribute("aria-label", headingText);
  frames.addEventListener("click", (event) => {
    const frame = frameOf(event.target);
    if (frame) zoom(frame);
  });
  frames.addEventListener("mouseover", (event) => {
    const frame = frameOf(event.target);
    if (frame) show(frame);
  });
  frames.addEventListener("mouseleave", () => show(null));
  document.addEventListener("keydown", onKey);
  window.addEventListener("resize", render);
  if (isBottomUp) {
    window.addEventListener("resize", () => scrollUpwards(0));
    window.addEventListener("wheel", (event) => scrollUpwards(-event.deltaY));
    scrollUpwards(0);
  } else {
    window.addEventListener("scroll", keepHeaderInView);
  }
  restoreState();
  show(null);
})();
