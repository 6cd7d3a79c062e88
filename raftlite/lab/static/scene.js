/* The scene: what the lecturer shows, a question before the decisive stop, and ticks for what must hold. */
"use strict";

(function (raftlite) {
  const { html, text, set } = raftlite.draw;

  class ScenePlayer {
    constructor(element, act) {
      const part = (name) => element.querySelector(`.${name}`);
      Object.assign(this, {
        element, act, choose: part("choose"), title: part("title"), dots: part("dots"), narration: part("narration"), question: part("question"),
        answers: part("answers"), answer: part("answer-given"), checks: part("checks"), next: part("next"), previous: part("previous"), again: part("again"), auto: part("auto"),
      });
      this.scenes = new Map();
      this.isSought = raftlite.whenChosen(this.choose, (name) => act.post({ op: "scene", name }), () => this.playing);
      this.next.addEventListener("click", () => act.nextStop());
      this.previous.addEventListener("click", () => act.previousStop());
      this.again.addEventListener("click", () => act.again());
      this.auto.addEventListener("click", () => act.post({ op: "autoplay", on: this.auto.getAttribute("aria-pressed") !== "true" }));
    }

    load({ scenes, show }) {
      this.scenes = new Map(scenes.map((scene) => [scene.name, scene]));
      const option = (scene, number) => html("option", { value: scene.name }, `${number ? `${number}  ` : ""}${scene.title || scene.name}`);
      const group = (label, list, isNumbered) => html("optgroup", { label }, ...list.map((scene, k) => option(scene, isNumbered && k + 1)));
      const inShow = new Set(show);
      this.free = html("option", { value: "" }, "Free play");
      this.choose.replaceChildren(
        this.free,
        group("The ten-minute show", show.map((name) => this.scenes.get(name)).filter(Boolean), true),
        group("More scenes", scenes.filter((scene) => !inShow.has(scene.name))),
      );
      this.shown = null;
    }

    /** Nothing has been predicted of another cluster, though its records may have the same numbers. */
    reset() {
      this.shown = this.open = this.picked = null;
    }

    /** `scene` is the server's word: name, position, waiting, stops, following. Without a server the trace says it all. */
    draw(frame, scene) {
      const { narration, asked, answered, checks } = frame.view;
      const question = asked.length ? asked[asked.length - 1] : null;
      const name = scene ? scene.name : frame.sceneName;
      const isOver = !frame.isServed && frame.i >= frame.last; // a recording
      const state = JSON.stringify([name, scene, narration && narration.i, question && question.i, answered && answered.answer.i, [...checks.values()].map((check) => check.i), frame.isLive, isOver, this.scenes.size]);
      if (state === this.shown) return;
      this.shown = state;
      const told = this.scenes.get(name);
      set(this.element, { class: `panel scene${narration ? " told" : ""}${answered ? " with-answer" : ""}` });
      this.playing = this.scenes.has(name) ? name : "";
      if (!this.isSought()) this.choose.value = this.playing;
      this.choose.hidden = !this.scenes.size;
      if (this.free) text(this.free, scene || frame.isServed ? "Free play" : "This recording");
      text(this.title, told ? told.title : name || (this.scenes.size ? "" : "Recording"));
      this.title.hidden = !this.title.textContent || this.scenes.has(name);
      text(this.narration, narration ? narration.text : told ? told.summary || "" : this.scenes.size ? `${frame.size} members, one leader. Choose a scene, press Page Down for the show, or break something.` : "");
      this.drawStops(scene, frame.isLive, isOver);
      this.drawQuestion(question, told);
      this.drawAnswer(answered, told);
      this.drawChecks(checks, told);
    }

    drawStops(scene, isLive, isOver) {
      const count = scene ? scene.stops : 0;
      this.dots.replaceChildren(...Array.from({ length: count }, (_, k) => html("span", { class: k < scene.position ? "done" : "" })));
      set(this.dots, { "aria-label": count ? `stop ${scene.position} of ${count}` : null, role: count ? "img" : null });
      this.next.disabled = scene && isLive ? !scene.waiting && !(scene.done && scene.following) : isOver;
      text(this.next.firstElementChild, scene && scene.done && scene.following && isLive ? "Next scene" : "Next");
      this.again.hidden = !(scene && scene.position);
      this.auto.hidden = !scene;
      set(this.auto, { "aria-pressed": String(Boolean(scene && scene.autoplay)) });
    }

    drawQuestion(question, told) {
      this.question.parentElement.hidden = !question;
      const key = question && `${question.i} ${Boolean(told)}`;
      if (!question || this.open === key) return;
      this.open = key;
      this.picked = null;
      const stop = stopOf(question, told);
      text(this.question, stop ? stop.question : question.text);
      this.answers.hidden = !(stop && stop.answers);
      this.answers.replaceChildren(...((stop && stop.answers) || []).map((words, k) => this.newAnswer(words, k, question)));
    }

    newAnswer(words, k, question) {
      const button = html("button", { type: "button", class: "answer", "aria-pressed": "false" }, html("b", {}, letter(k)), html("span", {}, words));
      button.addEventListener("click", () => {
        this.picked = { question: question.i, k };
        for (const other of this.answers.children) set(other, { "aria-pressed": String(other === button) });
      });
      return button;
    }

    /** What was right, why, and whether that was predicted here. */
    drawAnswer(answered, told) {
      this.answer.hidden = !answered;
      if (!answered) return;
      const stop = answered.question && stopOf(answered.question, told);
      const right = stop && stop.answers ? stop.answer : null;
      const said = this.picked && answered.question && this.picked.question === answered.question.i ? this.picked.k : null;
      this.answer.replaceChildren(
        answered.question ? html("span", { class: "was" }, stop ? stop.question : answered.question.text) : "",
        right === null ? "" : html("b", { class: "right" }, ` ✓ ${letter(right)} ${stop.answers[right]}`),
        said === null || right === null ? "" : html("span", { class: said === right ? "hit" : "miss" }, said === right ? " (as you said)" : ` (you said ${letter(said)})`),
        html("span", { class: "reason" }, ` ${right === null ? answered.answer.text : stop.because || ""}`));
    }

    drawChecks(checks, told) {
      const names = told && Array.isArray(told.checks) ? told.checks : [];
      const isFailed = (name) => checks.has(name) && !checks.get(name).ok;
      const all = [...new Set([...names, ...checks.keys()])].sort((a, b) => isFailed(b) - isFailed(a)); // those are in sight
      this.checks.classList.toggle("known", all.every((name) => checks.has(name))); // the scene is over, so there is room
      this.checks.replaceChildren(...all.map((name) => {
        const check = checks.get(name);
        const state = !check ? "open" : check.ok ? "ok" : "failed";
        return html("li", { class: state, title: (check && check.why) || null },
          html("b", { "aria-label": { open: "not yet known", ok: "holds", failed: "does not hold" }[state], role: "img" }, { open: "…", ok: "✓", failed: "✗" }[state]),
          html("span", {}, check && !check.ok && check.why ? `${name}: ${check.why}` : name));
      }));
    }
  }

  const letter = (k) => String.fromCharCode(65 + k);
  // The record has the choices too, for whoever has nothing but the record.
  const stopOf = (question, told) => told && (told.stops || []).find((each) => each.question && question.text.startsWith(each.question));

  raftlite.ScenePlayer = ScenePlayer;
})((window.raftlite = window.raftlite || {}));
