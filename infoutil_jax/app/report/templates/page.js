"use strict";
(() => {
  const data = {}, detail = document.getElementById("detail"), shown = document.getElementById("shown");
  const cards = [...document.querySelectorAll(".card")];
  let pinned = null;

  const about = (id) => data[id] ??= JSON.parse(document.getElementById(id + "-data").textContent);
  const element = (name, attributes = {}, ...children) => {
    const svg = ["svg", "image", "rect"].includes(name);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };

  // The image that a tile was cut from, its Shapley values, and the box that was kept.
  const origin = (set, tile) => {
    const [height, width] = set.size, name = tile.source ?? "";
    const small = Math.max(height, width) <= 32 ? "small" : "";
    const parts = [element("image", { class: small, href: set.origins[tile.origin], width, height, preserveAspectRatio: "none" })];
    const most = tile.map && Math.max(1e-12, ...tile.map.flat().map(Math.abs));
    tile.map?.forEach((line, row) => line.forEach((value, column) => parts.push(element("rect", {
      class: value > 0 ? "more" : "less", opacity: 0.6 * Math.abs(value) / most,
      x: column * width / line.length, y: row * height / tile.map.length,
      width: width / line.length, height: height / tile.map.length,
    }))));
    const [top, left, boxHeight, boxWidth] = tile.box;
    parts.push(element("rect", { class: "box", x: left, y: top, width: boxWidth, height: boxHeight }));
    const picture = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
      "aria-label": `${name}; kept: ${boxHeight} by ${boxWidth} pixels from row ${top}, column ${left}` }, ...parts);
    if (!tile.map) return [picture];
    return [picture, element("div", { class: "scale" }), element("div", { class: "ends" },
      element("span", {}, `−${most.toPrecision(2)}`), element("span", {}, "Shapley value"), element("span", {}, `+${most.toPrecision(2)}`))];
  };

  const opinion = (set, label, stage, rows) => [
    element("p", {}, `${stage} teacher`),
    element("div", { class: "bars" }, ...rows.flatMap(([index, share]) => [
      element(index === label ? "b" : "span", {}, set.classes[index]),
      element("i", { class: index === label ? "own" : "other", style: `width:${100 * share}%` }),
      element("span", { class: "share" }, `${Math.round(100 * share)}%`),
    ])),
  ];

  const show = (card) => {
    const set = about(card.dataset.set), item = set.items[card.dataset.index];
    shown.replaceChildren(element("h3", {}, set.classes[item.label]), ...item.tiles.map((tile) => element("div", { class: "tile" },
      ...(tile.origin == null ? [] : origin(set, tile)),
      element("p", {}, tile.source ? `${tile.source}: rank ${tile.rank + 1}, score ${tile.score}` : `score ${tile.score}`),
      ...Object.entries(tile.opinions).flatMap(([stage, rows]) => opinion(set, item.label, stage, rows)))));
    detail.hidden = false;
  };
  const choose = (card) => {
    pinned?.removeAttribute("aria-pressed");
    pinned = card;
    if (card) { card.setAttribute("aria-pressed", "true"); show(card); } else detail.hidden = true;
  };

  // One stop of the Tab key for each class; arrows move within it.
  const visible = (group) => [...group.children].filter((card) => !card.hidden);
  const move = (card, key) => {
    const all = visible(card.parentElement), place = all.indexOf(card);
    const line = all.filter((one) => one.offsetTop === all[0].offsetTop).length || 1;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: line, ArrowUp: -line, Home: -place, End: all.length - 1 - place };
    const next = all[Math.min(Math.max(place + steps[key], 0), all.length - 1)];
    card.tabIndex = -1; next.tabIndex = 0; next.focus();
  };
  for (const card of cards) {
    if (card.firstChild.naturalWidth && card.firstChild.naturalWidth <= 32) card.classList.add("small");
    card.firstChild.addEventListener("load", (event) => card.classList.toggle("small", event.target.naturalWidth <= 32));
    card.addEventListener("mouseenter", () => show(card));
    card.addEventListener("mouseleave", () => pinned ? show(pinned) : detail.hidden = true);
    card.addEventListener("focus", () => choose(card));
    card.addEventListener("click", () => choose(card));
    card.addEventListener("keydown", (event) => {
      if (["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) { event.preventDefault(); move(card, event.key); }
    });
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(null); });
  document.getElementById("close").addEventListener("click", () => choose(null));

  const [kind, sort, search, doubtful, count] = ["class", "sort", "search", "doubtful", "count"].map((id) => document.getElementById(id));
  const orders = {
    rank: (a, b) => a.dataset.rank - b.dataset.rank, score: (a, b) => b.dataset.score - a.dataset.score,
    own: (a, b) => a.dataset.own - b.dataset.own, entropy: (a, b) => b.dataset.entropy - a.dataset.entropy,
  };
  const refresh = () => {
    const wanted = search.value.trim().toLowerCase();
    let left = 0;
    for (const group of document.querySelectorAll(".class")) {
      const box = group.querySelector(".cards"), mine = [...box.children].sort(orders[sort.value]);
      for (const card of mine) {
        card.hidden = (doubtful.checked && !card.classList.contains("doubtful")) || !card.dataset.sources.toLowerCase().includes(wanted);
        card.tabIndex = -1;
      }
      box.append(...mine);
      const some = visible(box);
      group.hidden = !some.length || (kind.value !== "" && group.dataset.class !== kind.value);
      if (some.length) some[0].tabIndex = 0;
      if (!group.hidden) left += some.length;
    }
    count.textContent = left === cards.length ? `${left} images` : `${left} of ${cards.length} images`;
  };
  for (const control of [kind, sort, search, doubtful]) control.addEventListener("input", refresh);
  document.getElementById("controls").addEventListener("submit", (event) => event.preventDefault());
  refresh();
})();
