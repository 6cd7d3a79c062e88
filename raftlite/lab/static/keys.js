/* What each key does. A remote control sends Page Down, Page Up and the full stop, which no list needs that has the
 * keyboard since something was chosen from it. */
"use strict";

(function (raftlite) {
  const isWriting = (target) => /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) && !/^(checkbox|radio|range|button)$/.test(target.type || "");
  const isOfRemote = (target, key) => target.tagName === "SELECT" && /^(PageDown|PageUp|\.)$/.test(key);
  const usesKey = (target, key) => (key === " " || key === "Enter") && target.closest("button, a, [role=button], summary, input, select");
  const usesArrow = (target) => target.matches("[role=tab], input, select");
  const mayRepeat = (key) => /^Arrow|^[-+=[\]]$/.test(key); // while it is held down; anything else is done once

  class Keys {
    constructor(app) {
      this.app = app;
      this.pair = null; // the members whose link is to be cut, while their digits come
      document.addEventListener("keydown", (event) => this.press(event));
    }

    press(event) {
      const { key, target } = event;
      if (!this.app.frame) return; // nothing is there yet
      if (event.ctrlKey || event.metaKey || this.app.dialogs.isOpen || event.defaultPrevented) return;
      if ((isWriting(target) && !isOfRemote(target, key)) || usesKey(target, key)) return;
      if (/^Arrow/.test(key) && usesArrow(target)) return;
      if (key.length === 1 && key !== " " && !this.areLettersKeys && key !== "?") return;
      if (event.repeat && !mayRepeat(key)) return key === "Tab" ? undefined : event.preventDefault();
      const done = this.ofPair(key) || this.ofDigit(key) || this.of(key, event.shiftKey);
      if (done) event.preventDefault();
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

  raftlite.Keys = Keys;
})((window.raftlite = window.raftlite || {}));
