/* The facts about one member or one message, and about all of them as a table. */
"use strict";

(function (raftlite) {
  const { html, text, set } = raftlite.draw;
  const { words } = raftlite;

  const timer = (node, t) => (node.deadline === null || !node.isUp ? "–" : `${Math.max(0, node.deadline - t).toFixed(1)}${node.span ? ` of ${node.span.toFixed(1)}` : ""} s`);
  const lease = (node, t) => (node.lease === null || !node.isUp ? "–" : node.lease > t ? `${words.seconds(node.lease - t)} left` : "run out");

  /** A list of facts whose values are written anew only where they changed. */
  class Facts {
    constructor(element) {
      this.element = element;
      this.values = new Map();
    }

    show(facts) {
      const names = facts.map(([name, , isWide]) => `${name}${isWide ? "" : " "}`).join("\n");
      if (names !== this.names) this.build(facts);
      this.names = names;
      for (const [name, value] of facts) text(this.values.get(name), String(value));
    }

    build(facts) {
      this.values.clear();
      this.element.replaceChildren(...facts.flatMap(([name, , isWide]) => {
        const value = html("dd");
        this.values.set(name, value);
        if (isWide) value.className = "wide";
        return [html("dt", {}, name), value];
      }));
    }
  }

  class Inspector {
    constructor(element, act) {
      this.act = act;
      this.title = html("h2", { id: "inspector-title" });
      this.badge = raftlite.draw.svg("svg", { class: "badge", viewBox: "-24 -24 48 48", "aria-hidden": "true" });
      this.facts = new Facts(html("dl", { class: "facts" }));
      this.why = html("p", { class: "why" });
      this.buttons = html("div", { class: "buttons" });
      this.be = html("button", { type: "button", class: "be", hidden: true, title: "The others are hidden; what do you do with each message?" }, "Be this one", html("kbd", { "aria-hidden": "true" }, "y"));
      this.be.addEventListener("click", () => act.actOut());
      element.append(html("div", { class: "inspected" }, this.badge, this.title, this.be), this.facts.element, this.why, this.buttons);
    }

    draw(frame) {
      this.be.hidden = frame.selected === null || frame.selectedMessage !== null || !this.act.isServed;
      if (frame.selectedMessage !== null) this.drawMessage(frame.history.messages.get(frame.selectedMessage), frame);
      else if (frame.selected !== null) this.drawMember(frame.selected, frame.view.node(frame.selected), frame);
      else this.drawNothing(frame);
    }

    drawMember(n, node, frame) {
      const look = words.look(node);
      text(this.title, `${n} · ${words.role(node).name}${node.isPaused ? ` ${node.role}` : ""}`);
      this.drawBadge(look);
      const config = frame.config;
      const votes = `${node.votes.length} of ${frame.size}${config.majority ? `, ${config.majority} needed` : ""}${node.votes.length ? `: ${words.list(node.votes)}` : ""}`;
      const [term, vote] = [["term", node.term], ["vote", node.vote || "none"]];
      const starts = [...(node.inc > 1 ? [["starts", node.inc]] : []), ...(node.pid ? [["process", node.pid]] : [])];
      if (node.role === "leader") this.facts.show([term, ["lease", lease(node, frame.t)], vote, ["beat", timer(node, frame.t)], ...starts]);
      else if (/candidate/.test(node.role)) this.facts.show([term, vote, ["votes", votes, true], ["timer", timer(node, frame.t), true], ...starts]);
      else this.facts.show([term, vote, ["leader", node.leader || "none"], ["timer", timer(node, frame.t)], ...starts]);
      text(this.why, node.why ? `Because: ${node.why}` : "");
      this.show(raftlite.actions.ofMember(n, node), frame);
    }

    drawMessage(message, frame) {
      if (!message) return this.drawNothing(frame);
      const isFlying = frame.view.inFlight.has(message.m);
      const ends = message.ends.filter((end) => end.i <= frame.i);
      text(this.title, `${message.from} → ${message.to} · message ${message.m}`);
      this.drawBadge("message", message);
      const facts = [["what", words.type(message.type), true], ["term", message.term === undefined ? "–" : message.term]];
      facts.push(["sent", `at ${words.seconds(message.t)}`]);
      if (isFlying && frame.view.held.has(message.m)) facts.push(["now", "held by hand"]);
      else if (isFlying) facts.push(["due", message.eta === null ? "never: it will be lost" : `in ${words.seconds(Math.max(0, message.eta - frame.t))}`]);
      for (const end of ends) facts.push([end.copy ? `copy ${end.copy}` : "then", `${end.k === "lost" ? "lost" : end.result || "heard"} at ${words.seconds(end.t)}`]);
      this.facts.show(facts);
      const reason = ends.map((end) => (end.k === "lost" ? words.lost(end.why) : end.why)).find(Boolean) || message.why;
      text(this.why, reason ? `Because: ${reason}` : message.text || "");
      this.show(isFlying ? raftlite.actions.ofMessage(message.m, frame.view.held.has(message.m)) : [], frame);
    }

    drawNothing() {
      text(this.title, "Nobody selected");
      this.drawBadge("");
      this.facts.show([]);
      text(this.why, "Click a member or a message, or press the digit of a member.");
      this.show([], { isLive: true });
    }

    drawBadge(look, message) {
      const drawn = message ? `m${message.m}` : look;
      if (drawn === this.badge.drawn) return;
      this.badge.drawn = drawn;
      if (!look) return this.badge.replaceChildren();
      if (message) return this.badge.replaceChildren();
      const letter = raftlite.draw.svg("text", { class: "letter", y: 1, "font-size": 18 });
      letter.textContent = words.ROLES[look].letter;
      this.badge.replaceChildren(raftlite.draw.svg("g", { class: `node is-${look}` }, raftlite.draw.member(look, 17), letter));
    }

    show(actions, frame) {
      const wanted = JSON.stringify(actions); // not only their names: each acts on one member or message
      if (wanted !== this.shown) {
        this.shown = wanted;
        this.buttons.replaceChildren(...actions.map((action) => raftlite.actions.button(action, this.act)));
      }
      for (const button of this.buttons.children) button.disabled = !frame.isLive;
      this.actions = actions;
    }
  }

  const COLUMNS = ["Member", "Role", "Term", "Voted for", "Votes", "Follows", "Timer", "Lease", "Because"];

  class Table {
    constructor(element, act) {
      this.body = html("tbody");
      this.flight = html("tbody");
      this.links = html("p", { class: "links-in-words" });
      const heads = (names) => html("thead", {}, html("tr", {}, ...names.map((name) => html("th", { scope: "col" }, name))));
      element.append(
        html("table", { class: "members" }, html("caption", {}, "Members"), heads(COLUMNS), this.body),
        this.links,
        html("table", { class: "flights" }, html("caption", {}, "Messages on their way"), heads(["Message", "From", "To", "What", "Term", "Due in"]), this.flight),
      );
      this.body.addEventListener("click", (event) => {
        const row = event.target.closest("tr");
        if (row) act.select(row.dataset.node);
      });
      this.flight.addEventListener("click", (event) => {
        const row = event.target.closest("tr");
        if (row && row.dataset.message) act.selectMessage(Number(row.dataset.message));
      });
      this.flight.addEventListener("keydown", (event) => {
        if (event.key === "Enter") event.target.click();
      });
    }

    reset(header) {
      this.rows = new Map(header.nodes.map((n) => [n, COLUMNS.map((name, k) => html(k ? "td" : "th", k ? {} : { scope: "row" }))]));
      this.body.replaceChildren(...[...this.rows].map(([n, cells]) => html("tr", { "data-node": n }, ...cells)));
    }

    draw(frame) {
      for (const [n, cells] of this.rows) {
        const node = frame.view.node(n);
        const name = words.role(node);
        const values = [n, `${name.letter} ${name.name}${node.isPaused ? ` (${node.role})` : ""}`, node.term, node.vote || "–", words.list(node.votes) || "–",
          node.leader || "–", timer(node, frame.t), lease(node, frame.t), node.why];
        values.forEach((value, k) => text(cells[k], String(value)));
        set(cells[0].parentElement, { class: `is-${words.look(node)}${frame.selected === n ? " selected" : ""}` });
      }
      const { cut, delay, loss } = frame.view.links;
      const speed = delay ? ` A message takes ${delay[0]} to ${delay[1]} s; ${Math.round(100 * loss)} % are lost.` : "";
      text(this.links, (cut.length ? `Cut: ${cut.map(([a, b]) => `${a} → ${b}`).join(", ")}.` : "Every link is whole.") + speed);
      this.drawFlight(frame);
    }

    drawFlight(frame) {
      const flying = [...frame.view.inFlight.values()].slice(-30);
      while (this.flight.children.length > flying.length) this.flight.lastChild.remove();
      while (this.flight.children.length < flying.length) this.flight.append(html("tr", { tabindex: "0" }, ...Array.from({ length: 6 }, () => html("td"))));
      flying.forEach((send, k) => {
        const row = this.flight.children[k];
        row.dataset.message = send.m;
        const isHeld = frame.view.held.has(send.m);
        const due = isHeld ? "held" : typeof send.eta === "number" ? words.seconds(Math.max(0, send.eta - frame.t)) : "will be lost";
        [send.m, send.n, send.to, words.type(send.type), send.term === undefined ? "–" : send.term, due].forEach((value, cell) => text(row.children[cell], String(value)));
      });
    }
  }

  Object.assign(raftlite, { Inspector, Table });
})((window.raftlite = window.raftlite || {}));
