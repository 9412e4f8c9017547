// Keeps the live part of a page fresh. The page is complete without this file; nothing here decides anything.
"use strict";

(() => {
  const region = document.querySelector("[data-live]");
  const controls = document.querySelector("[data-live-controls]");
  if (!region || !controls) return;

  const period = 2000;
  const slowest = 30000;
  const button = controls.querySelector("button");
  const trouble = document.querySelector("[data-live-trouble]");
  const spoken = document.querySelector("[data-live-spoken]");
  let wait = period;
  let paused = false;
  let shown = "";

  const sentence = () => {
    const element = region.querySelector("[data-announce]");
    return element ? element.textContent.trim().replace(/\s+/g, " ") : "";
  };

  const selector = (element) => {
    if (element.id) return `#${CSS.escape(element.id)}`;
    if (element.matches("details[id] > summary")) return `#${CSS.escape(element.parentElement.id)} > summary`;
    if (element.matches("a[href]")) return `a[href="${CSS.escape(element.getAttribute("href"))}"]`;
    return "";
  };

  // What the reader did to the page outlives the exchange: opened tables, scroll positions, the focused element.
  const remember = () => ({
    open: [...region.querySelectorAll("details[id][open]")].map((element) => element.id),
    scroll: [...region.querySelectorAll("[id].scroll")].map((element) => [element.id, element.scrollLeft]),
    focus: region.contains(document.activeElement) ? selector(document.activeElement) : "",
  });

  const restore = (kept) => {
    for (const id of kept.open) {
      const element = document.getElementById(id);
      if (element) element.open = true;
    }
    for (const [id, left] of kept.scroll) {
      const element = document.getElementById(id);
      if (element) element.scrollLeft = left;
    }
    if (kept.focus) region.querySelector(kept.focus)?.focus({ preventScroll: true });
  };

  const selecting = () => {
    const selection = document.getSelection();
    return selection && !selection.isCollapsed && region.contains(selection.anchorNode);
  };

  const refresh = async () => {
    if (!paused && !document.hidden && !selecting()) {
      try {
        const answer = await fetch(region.dataset.live, { credentials: "same-origin" });
        if (answer.redirected) {
          window.location.reload();
          return;
        }
        if (!answer.ok) throw new Error(String(answer.status));
        const text = await answer.text();
        if (text !== shown && !paused) {
          const before = sentence();
          const kept = remember();
          region.innerHTML = text;
          restore(kept);
          shown = text;
          if (before !== sentence()) spoken.textContent = sentence();
        }
        trouble.hidden = true;
        wait = period;
      } catch {
        trouble.hidden = false;
        wait = Math.min(wait * 2, slowest);
      }
    }
    window.setTimeout(refresh, wait);
  };

  button.addEventListener("click", () => {
    paused = !paused;
    button.textContent = paused ? button.dataset.resume : button.dataset.pause;
  });
  controls.hidden = false;
  window.setTimeout(refresh, period);
})();
