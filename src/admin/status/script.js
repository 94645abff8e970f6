// Updates the figures without reloading the page. Open details stay open, and the focused element keeps the focus.
"use strict";
(() => {
  const REFRESH_MS = 5000;
  const pause = document.getElementById("pause");
  let paused = false;
  let lostSince = null;

  const update = (fresh) => {
    document.title = fresh.title;
    // The banner of monitor mode comes and goes with a reload of the configuration.
    if (!document.querySelector(".monitor") !== !fresh.querySelector(".monitor")) {
      location.reload();
      return;
    }
    for (const region of document.querySelectorAll("[data-live]")) {
      const next = fresh.getElementById(region.id);
      if (!next) continue;
      const open = [...region.querySelectorAll("details[open]")].map((details) => details.id);
      for (const id of open) next.querySelector("#" + CSS.escape(id))?.setAttribute("open", "");
      // An unchanged region is not replaced, so that a screen reader announces only changes.
      if (region.innerHTML === next.innerHTML) continue;
      const focused = region.contains(document.activeElement) ? document.activeElement : null;
      const holder = focused?.closest("details")?.id;
      const place = focused && !holder ? [...region.querySelectorAll("a")].indexOf(focused) : -1;
      region.replaceChildren(...next.childNodes);
      if (holder) document.getElementById(holder)?.querySelector("summary")?.focus({ preventScroll: true });
      else if (place >= 0) region.querySelectorAll("a")[place]?.focus({ preventScroll: true });
    }
  };

  const showLost = () => {
    const lost = document.getElementById("lost");
    if (!lost) return;
    lost.hidden = !lostSince;
    if (lostSince) lost.textContent = "The gateway has not answered since " + lostSince + ". What you see is old.";
  };

  const refresh = async () => {
    if (paused || document.hidden || getSelection()?.type === "Range") return;
    try {
      const answer = await fetch(location.pathname + location.search, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      lostSince = null;
      update(fresh);
    } catch {
      lostSince ??= new Date().toISOString().slice(11, 19) + " UTC";
    }
    showLost();
  };

  pause.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    pause.textContent = paused ? "Paused" : "Pause";
    if (!paused) refresh();
  });
  // The page opens the story of the decision that its address names (`#d…`).
  const open = () => {
    const target = location.hash.startsWith("#d") && document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", open);
  open();
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, REFRESH_MS);
})();
