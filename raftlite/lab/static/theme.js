/* Dark or light, before anything is drawn: as was chosen last, or as the system has it. */
"use strict";

(function (raftlite) {
  const KEY = "raftlite-theme";
  const root = document.documentElement;
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch (error) {
      return null; // as where a file may keep nothing
    }
  }

  function apply(name) {
    root.dataset.theme = name || (system.matches ? "dark" : "light");
    window.dispatchEvent(new Event("raftlite-theme"));
  }

  function toggle() {
    const name = root.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, name);
    } catch (error) {
      // It holds until the page is closed.
    }
    apply(name);
  }

  apply(stored());
  system.addEventListener("change", () => apply(stored()));
  raftlite.theme = { toggle };
})((window.raftlite = window.raftlite || {}));
