/* You are n3: the page hides the others, and asks for each message that one member heard what it must do. What it did
 * is read off the recording by the server; there is no rule of Raft in here.
 */
"use strict";

(function (raftlite) {
  const { html, text } = raftlite.draw;
  const { words } = raftlite;
  const byId = (id) => document.getElementById(id);
  const LETTERS = "abcdefgh";

  class Act {
    constructor(app) {
      this.app = app;
      this.dialog = byId("act-dialog");
      const part = (name) => this.dialog.querySelector(`.${name}`);
      this.parts = { title: part("act-title"), dots: part("act-dots"), knows: part("act-knows"), heard: part("act-heard"), choices: part("act-choices"), verdict: part("act-verdict") };
      this.next = part("act-next");
      this.keep = part("act-keep");
      this.next.addEventListener("click", () => this.goOn());
      this.keep.addEventListener("click", () => this.save());
      this.dialog.addEventListener("keydown", (event) => this.press(event));
    }

    async begin(n) {
      try {
        const response = await fetch(`act?n=${encodeURIComponent(n)}`, { cache: "no-store" });
        const answer = await response.json();
        if (!response.ok) throw new Error(answer.error);
        if (!answer.turns.length) return this.app.toast(`${n} has heard nothing yet that it had to decide`);
        Object.assign(this, { n, turns: answer.turns, told: answer.answers, given: [] });
        this.dialog.showModal();
        this.ask();
      } catch (error) {
        this.app.toast(`It cannot be played: ${error.message}`);
      }
    }

    get at() {
      return this.given.length;
    }

    get right() {
      return this.given.filter((choice, k) => choice === this.told[k].answer).length;
    }

    ask() {
      const turn = this.turns[this.at];
      text(this.parts.title, `You are ${this.n} · message ${this.at + 1} of ${this.turns.length}, at ${words.seconds(turn.t)}`);
      this.drawDots();
      this.parts.knows.replaceChildren(...this.knows(turn.before).flatMap(([name, value]) => [html("dt", {}, name), html("dd", {}, String(value))]));
      text(this.parts.heard, `${turn.heard}.`);
      this.buttons = turn.choices.map((choice, k) => {
        const button = html("button", { type: "button" }, html("kbd", { "aria-hidden": "true" }, LETTERS[k]), html("span", {}, choice));
        button.addEventListener("click", () => this.choose(k));
        return button;
      });
      this.parts.choices.replaceChildren(...this.buttons);
      text(this.parts.verdict, "");
      this.next.hidden = this.keep.hidden = true;
      this.buttons[0].focus();
    }

    knows(before) {
      const votes = before.votes.length ? [["votes", `${before.votes.length} of ${before.majority} needed`]] : [];
      const beat = before.heartbeat === null ? "never" : `${words.seconds(before.heartbeat)} ago`;
      return [["you are", before.role], ["term", before.term], ["you voted for", before.vote || "nobody"], ["you follow", before.leader || "nobody"], ...votes, ["last heartbeat", beat]];
    }

    drawDots() {
      this.parts.dots.replaceChildren(...this.turns.map((turn, k) => {
        const given = this.given[k];
        const kind = given === undefined ? (k === this.at ? "now" : "") : given === this.told[k].answer ? "right" : "wrong";
        return html("span", { class: kind }, { right: "✓", wrong: "✗" }[kind] || "·");
      }));
    }

    choose(k) {
      if (!this.next.hidden) return;
      const { answer, did, why } = this.told[this.at];
      this.given.push(k);
      this.buttons[k].classList.add(k === answer ? "right" : "wrong");
      this.buttons[answer].classList.add("right");
      for (const button of this.buttons) button.disabled = true;
      const isOver = this.at === this.turns.length;
      const sum = isOver ? ` ${this.right} of ${this.turns.length} as raftlite did.` : "";
      text(this.parts.verdict, `${k === answer ? "Right." : `No. ${this.n} did this: ${did}.`}${why ? ` Because: ${why}.` : ""}${sum}`);
      this.drawDots();
      text(this.next, isOver ? "Play again" : "Next message");
      this.next.hidden = false;
      this.keep.hidden = !isOver;
      this.next.focus();
    }

    goOn() {
      if (this.at === this.turns.length) this.given = [];
      this.ask();
    }

    press(event) {
      const k = LETTERS.indexOf(event.key);
      if (event.key.length !== 1 || k < 0 || event.ctrlKey || event.metaKey || !this.buttons[k]) return;
      event.preventDefault();
      this.choose(k);
    }

    /** As `raftlite lab n3` writes it, and `raftlite lab check` marks it. */
    save() {
      const answers = Object.fromEntries(this.given.map((choice, k) => [String(this.turns[k].i), LETTERS[choice]]));
      const file = new Blob([JSON.stringify({ node: this.n, answers }, null, 1), "\n"], { type: "application/json" });
      raftlite.download(URL.createObjectURL(file), `${this.n}.json`);
    }
  }

  raftlite.Act = Act;
})((window.raftlite = window.raftlite || {}));
