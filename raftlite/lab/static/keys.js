/* What each key does. A remote control sends Page Down, Page Up and the full stop, which no list needs that has the
 * keyboard; a field that is written into has no use for the first two.
 */
"use strict";

(function (raftlite) {
  const isWriting = (target) => /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) && !/^(checkbox|radio|range|button)$/.test(target.type || "");
  const isOfRemote = (target, key) => /^Page(Down|Up)$/.test(key) || (target.tagName === "SELECT" && key === ".");
  const usesKey = (target, key) => (key === " " || key === "Enter") && target.closest("button, a, [role=button], summary, input, select");
  const usesArrow = (target) => target.matches("[role=tab], input, select");
  const mayRepeat = (key) => /^Arrow|^[-+=[\]]$/.test(key); // while it is held down; anything else is done once

  class Keys {
    constructor(app) {
      this.app = app;
      this.pair = null; // the members whose link is to be cut, while their digits come
      this.clicked = null; // what has the keyboard only because it was clicked at
      document.addEventListener("pointerdown", (event) => (this.clicked = event.target), true);
      document.addEventListener("keydown", (event) => this.press(event));
    }

    press(event) {
      const { key, target } = event;
      if (!this.app.frame) return; // nothing is there yet
      if (event.ctrlKey || event.metaKey || this.app.dialogs.isOpen || event.defaultPrevented) return;
      if (key === "Tab") this.clicked = null;
      if (this.isOfTarget(target, key)) return;
      if (key.length === 1 && key !== " " && !this.areLettersKeys && key !== "?") return;
      if (event.repeat && !mayRepeat(key)) return key === "Tab" ? undefined : event.preventDefault();
      const done = this.ofPair(key) || this.ofDigit(key) || this.of(key, event.shiftKey);
      if (done) event.preventDefault();
    }

    /** Whether what has the keyboard needs the key itself; a list that was only clicked at does not. */
    isOfTarget(target, key) {
      if (target.tagName === "SELECT" && target === this.clicked) return false;
      if ((isWriting(target) && !isOfRemote(target, key)) || usesKey(target, key)) return true;
      return /^Arrow/.test(key) && usesArrow(target);
    }

    get areLettersKeys() {
      return document.getElementById("single-keys").checked;
    }

    ofDigit(key) {
      const n = /^[1-9]$/.test(key) ? this.app.ids[Number(key) - 1] : null;
      if (n) this.app.select(n);
      return Boolean(n);
    }

    ofPair(key) {
      if (!this.pair) return false;
      const n = /^[1-9]$/.test(key) ? this.app.ids[Number(key) - 1] : null;
      if (n && !this.pair.members.includes(n)) this.pair.members.push(n);
      if (key === "Escape" || this.pair.members.length === 2) this.endPair();
      else this.app.hint(`Cut or mend ${this.pair.isOneWay ? "one way" : "the link"}: ${this.pair.members.join(" ")} … press the digits of two members, or Escape`);
      return true;
    }

    endPair() {
      const { members, isOneWay } = this.pair;
      this.pair = null;
      this.app.hint("");
      if (members.length === 2) this.app.link(members[0], members[1], isOneWay);
    }

    beginPair(isOneWay) {
      this.pair = { members: [], isOneWay };
      this.ofPair("");
    }

    of(key, isShifted) {
      const { app } = this;
      const does = {
        " ": () => app.playOrPause(),
        ".": () => app.playOrPause(),
        ArrowLeft: () => (isShifted ? app.stepChange(-1) : app.step(-1)),
        ArrowRight: () => (isShifted ? app.stepChange(1) : app.step(1)),
        End: () => app.goLive(),
        Home: () => app.seek(0),
        PageDown: () => app.nextStop(),
        PageUp: () => app.previousStop(),
        Escape: () => app.select(null),
        "?": () => app.dialogs.help(),
        c: () => this.beginPair(false),
        C: () => this.beginPair(true),
        g: () => app.dialogs.group(),
        n: () => app.dialogs.note(),
        y: () => app.actOut(),
        e: () => app.dialogs.export(),
        l: () => app.command({ op: "kill", n: "leader" }),
        h: () => app.command({ op: "heal" }),
        b: () => app.command({ op: "start_all" }),
        a: () => app.command({ op: "align" }),
        s: () => app.command({ op: "spread" }),
        "[": () => app.changeDelay(-0.1),
        "]": () => app.changeDelay(0.1),
        "-": () => app.changeSpeed(-1),
        "+": () => app.changeSpeed(1),
        "=": () => app.changeSpeed(1),
        v: () => app.toggleTable(),
        d: () => raftlite.theme.toggle(),
      }[key];
      if (does) does();
      else return app.pressOfMember(key);
      return true;
    }
  }

  /** `take` is called when `control` is set. The keyboard goes back to the page, unless it was set by the keyboard. */
  function whenSet(control, take) {
    const is = watched(control);
    control.addEventListener("change", () => {
      take();
      if (!is.byKey) control.blur();
    });
  }

  /** The same for a list with which the arrows only look for something: Enter takes it, and whoever leaves does not. */
  function whenChosen(list, take, now) {
    const is = watched(list);
    let isSought = false;
    const leave = () => {
      if (isSought) list.value = now();
      isSought = false;
    };
    list.addEventListener("change", () => {
      isSought = is.byKey;
      if (isSought) return;
      take(list.value);
      list.blur();
    });
    list.addEventListener("keydown", (event) => {
      if (event.key === "Escape") leave();
      if (event.key !== "Enter" || !isSought) return;
      event.preventDefault();
      isSought = false;
      take(list.value);
    });
    list.addEventListener("blur", leave);
    return () => isSought;
  }

  /** Whether a control is being set by keys. Those that open a list do not choose from it. */
  function watched(control) {
    const is = { byKey: false };
    control.addEventListener("pointerdown", () => (is.byKey = false));
    control.addEventListener("keydown", ({ key }) => (is.byKey = key !== " " && key !== "Enter"));
    control.addEventListener("blur", () => (is.byKey = false));
    return is;
  }

  Object.assign(raftlite, { Keys, whenSet, whenChosen });
})((window.raftlite = window.raftlite || {}));
