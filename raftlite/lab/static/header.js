/* The words around the pictures: who leads, what kind of cluster it is, where in time the view is. */
"use strict";

(function (raftlite) {
  const { text, set, svg, html } = raftlite.draw;
  const { words } = raftlite;
  const byId = (id) => document.getElementById(id);
  const BACKENDS = { threads: "real threads", processes: "real processes", virtual: "virtual clock" };
  const SCALES = [[4, "¼"], [2, "½"], [1, "1"], [0.5, "2"], [0.2, "5"], [0.1, "10"], [0.05, "20"], [0.02, "50"]];
  const SPEEDS = [[0.25, "¼"], [0.5, "½"], [1, "1"], [2, "2"], [4, "4"], [8, "8"]];

  class Header {
    constructor() {
      this.badge = svg("svg", { viewBox: "-24 -24 48 48", class: "badge", "aria-hidden": "true" });
      this.leading = html("b");
      this.also = html("span");
      byId("leader").append(this.badge, this.leading, this.also);
      document.querySelector(".legend").append(...["follower", "pre-candidate", "candidate", "leader", "stopped", "paused"].map((look) => {
        const letter = svg("text", { class: "letter", y: 1, "font-size": 18 });
        letter.textContent = words.ROLES[look].letter;
        const icon = svg("svg", { viewBox: "-24 -24 48 48", class: "badge" }, svg("g", { class: `node is-${look}` }, raftlite.draw.member(look, 17), letter));
        return html("span", {}, icon, words.ROLES[look].name);
      }));
    }

    reset(header, answer) {
      const isLive = answer.live;
      text(byId("backend"), isLive ? BACKENDS[header.backend] || header.backend || "lab" : "recording");
      set(byId("backend"), { class: `tag ${isLive ? "real" : "recording"}` });
      const parts = [];
      if (!isLive && answer.name) parts.unshift(answer.name);
      if (!isLive && header.backend) parts.push(`made with ${BACKENDS[header.backend] || header.backend}`);
      if (header.seed !== null && header.seed !== undefined) parts.push(`seed ${header.seed}`);
      text(byId("about"), parts.join(" · "));
      for (const id of ["speed", "delay", "loss"]) byId(id).blur(); // or it would go on showing what it was set to before
      document.title = `raftlite lab${answer.name ? ` · ${answer.name}` : ""}`;
    }

    draw(frame) {
      this.drawLeader(frame);
      const scale = frame.view.scale;
      const real = scale === 1 ? "" : ` · real ${frame.t * scale < 10 ? `${Math.round(frame.t * scale * 1000)} ms` : words.seconds(frame.t * scale)}`;
      text(byId("clock"), `${words.seconds(frame.t)} of ${words.seconds(frame.end)}${real}`);
      const delay = frame.view.links.delay;
      const middle = delay ? (delay[0] + delay[1]) / 2 : 0;
      text(byId("delay-value"), words.seconds(middle));
      text(byId("loss-value"), `${Math.round(100 * frame.view.links.loss)} %`);
      if (document.activeElement !== byId("delay")) byId("delay").value = middle;
      if (document.activeElement !== byId("loss")) byId("loss").value = 100 * frame.view.links.loss;
    }

    drawLeader(frame) {
      const leader = frame.view.leaderAt(frame.t);
      const say = [...frame.view.nodes].filter(([n, node]) => node.isUp && node.role === "leader" && n !== leader);
      const look = leader ? "leader" : "stopped";
      if (this.look !== look) {
        const letter = svg("text", { class: "letter", y: 1, "font-size": 18 });
        letter.textContent = leader ? "L" : "–";
        this.badge.replaceChildren(svg("g", { class: `node is-${look}` }, raftlite.draw.member(look, 17), letter));
        byId("leader").classList.toggle("nobody", !leader);
      }
      this.look = look;
      text(this.leading, leader ? `${leader} leads in term ${frame.view.node(leader).term}` : "Nobody leads");
      text(this.also, say.map(([n, node]) => (node.lease === null ? `${n} is elected in term ${node.term}` : `${n} still says that it leads, in term ${node.term}`)).join(", "));
    }

    /** The choice of speeds: of the cluster itself in the present, of the replay in the past. */
    drawSpeed(isLive, value, canScale) {
      const select = byId("speed");
      const list = isLive ? SCALES : SPEEDS;
      if (this.speeds !== list) {
        select.replaceChildren(...list.map(([number, name]) => html("option", { value: number }, `${name}×`)));
        this.odd = null;
      }
      this.speeds = list;
      if (this.odd && Number(this.odd.value) !== value) this.odd = this.odd.remove() || null;
      const exact = list.find(([number]) => Math.abs(number - value) < 1e-9);
      if (!exact && !this.odd) select.append((this.odd = html("option", { value }, `${Math.round(100 / value) / 100}×`)));
      if (document.activeElement !== select) select.value = String(value);
      select.disabled = isLive && !canScale;
    }

    /** The next of the list before or after `value`, which need not be one of it. */
    speedBeside(value, by) {
      const numbers = this.speeds.map(([number]) => number);
      const way = by * Math.sign(numbers[1] - numbers[0]); // of the numbers: those of a cluster fall from slow to fast
      const beyond = numbers.filter((number) => way * (number - value) > 1e-9);
      return beyond.length ? beyond[by > 0 ? 0 : beyond.length - 1] : value;
    }
  }

  raftlite.Header = Header;
})((window.raftlite = window.raftlite || {}));
