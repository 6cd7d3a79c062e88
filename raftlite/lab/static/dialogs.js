/* What is asked in a dialog: help, a note, a group to cut off, the rules of the cluster, exports. */
"use strict";

(function (raftlite) {
  const { html, text, set } = raftlite.draw;
  const byId = (id) => document.getElementById(id);
  const isDigit = (key) => /^[1-9]$/.test(key);

  const EXPORTS = [
    ["html", "Replay, one file", "opens by double-click, needs no network"],
    ["jsonl", "Recording", "to open here again"],
    ["svg", "Diagram, SVG", "for a report"],
    ["png", "Diagram, PNG", "for a slide"],
    ["text", "Table, plain text", ""],
    ["mermaid", "Mermaid", "for a Markdown file"],
    ["shiviz", "ShiViz log", ""],
  ];

  class Dialogs {
    constructor(app) {
      this.app = app;
      this.newHelp();
      this.newGroup();
      this.newCluster();
      this.newExport();
      this.whenClosed("note-dialog", () => {
        const words = byId("note-text").value.trim();
        if (words) app.post({ op: "note", text: words });
      });
      // Who was asked something has given answers, which a click beside the dialog must not throw away.
      for (const dialog of document.querySelectorAll("dialog:not(#act-dialog)")) {
        dialog.addEventListener("click", (event) => event.target === dialog && isOutside(dialog, event) && dialog.close(""));
      }
    }

    whenClosed(id, done) {
      byId(id).addEventListener("close", () => byId(id).returnValue === "ok" && done());
    }

    get isOpen() {
      return document.querySelector("dialog[open]") !== null;
    }

    open(id) {
      byId(id).returnValue = "";
      byId(id).showModal();
    }

    help() {
      this.open("help-dialog");
    }

    newHelp() {
      byId("help-dialog").querySelector(".keys").append(...raftlite.actions.KEYS.map(([title, keys]) =>
        html("section", {}, html("h3", {}, title), html("dl", {}, ...keys.flatMap(([key, does]) => [
          html("dt", {}, ...key.split(" ").map((each) => (each === "…" ? "…" : html("kbd", {}, each)))), html("dd", {}, does)])))));
    }

    note() {
      byId("note-text").value = "";
      this.open("note-dialog");
      byId("note-text").focus();
    }

    // --- cut a group off ---

    group() {
      const { ids } = this.app;
      this.chosen = new Set();
      byId("group-dialog").querySelector(".group").replaceChildren(...ids.map((n) => {
        const box = html("input", { type: "checkbox", value: n });
        box.addEventListener("change", () => this.choose(n, box.checked));
        return html("label", { class: "chip" }, box, html("span", {}, n));
      }));
      this.choose("", false);
      this.open("group-dialog");
    }

    newGroup() {
      const presets = [["leader", "The leader alone"], ["leader-and-one", "The leader and one more"], ["minority", "A minority without the leader"], ["all", "Everybody from everybody"]];
      byId("group-dialog").querySelector(".presets").append(...presets.map(([preset, label]) => {
        const button = html("button", { type: "button" }, label);
        button.addEventListener("click", () => {
          this.app.command({ op: "partition", preset });
          byId("group-dialog").close("");
        });
        return button;
      }));
      byId("group-dialog").addEventListener("keydown", (event) => {
        const n = isDigit(event.key) ? this.app.ids[Number(event.key) - 1] : null;
        if (n) this.choose(n, !this.chosen.has(n));
      });
      this.whenClosed("group-dialog", () => {
        const rest = this.app.ids.filter((n) => !this.chosen.has(n));
        if (this.chosen.size && rest.length) this.app.split([[...this.chosen], rest]);
      });
    }

    choose(n, isIn) {
      if (isIn) this.chosen.add(n);
      else this.chosen.delete(n);
      for (const box of byId("group-dialog").querySelectorAll("input")) box.checked = this.chosen.has(box.value);
      const [group, rest] = [true, false].map((side) => this.app.ids.filter((each) => this.chosen.has(each) === side).join(" "));
      text(byId("group-dialog").querySelector(".sides"), group && rest ? `${group}  |  ${rest}` : "");
    }

    // --- the cluster ---

    cluster() {
      const { rules } = this.app.frame.view;
      byId("rule-pre_vote").checked = rules.pre_vote !== false;
      byId("rule-check_quorum").checked = rules.check_quorum !== false;
      byId("rule-jitter").checked = rules.jitter !== 0;
      byId("count").value = String(this.app.ids.length);
      for (const part of byId("cluster-dialog").querySelectorAll("fieldset")) part.disabled = !this.app.isServed || (part.classList.contains("live") && !this.app.frame.isLive);
      this.open("cluster-dialog");
    }

    newCluster() {
      byId("count").append(...[2, 3, 4, 5, 6, 7, 8, 9].map((count) => html("option", { value: count }, String(count))));
      for (const rule of ["pre_vote", "check_quorum", "jitter"]) {
        const box = byId(`rule-${rule}`);
        box.addEventListener("change", () => this.app.post({ op: "rules", [rule]: rule === "jitter" ? Number(box.checked) : box.checked }));
      }
      byId("afresh").addEventListener("click", () => {
        this.app.post({ op: "reset", nodes: Number(byId("count").value) });
        byId("cluster-dialog").close();
      });
    }

    // --- export ---

    export() {
      const { app } = this;
      const part = app.place();
      byId("moment").href = part;
      text(byId("moment"), part);
      byId("file").disabled = !app.isServed;
      for (const button of byId("export-dialog").querySelectorAll(".exports button")) button.hidden = !app.isServed && button.dataset.kind !== "jsonl";
      this.open("export-dialog");
    }

    newExport() {
      byId("export-dialog").querySelector(".exports").append(...EXPORTS.map(([kind, label, why]) => {
        const button = html("button", { type: "button", "data-kind": kind }, html("b", {}, label), why ? html("span", {}, why) : null);
        button.addEventListener("click", () => this.save(kind));
        return button;
      }));
      byId("file").addEventListener("change", () => this.app.openFile(byId("file").files[0]));
      byId("moment").addEventListener("click", () => byId("export-dialog").close());
    }

    async save(kind) {
      const address = this.address(kind === "png" ? "svg" : kind);
      try {
        if (!this.app.isServed) return download(URL.createObjectURL(this.inside()), "recording.jsonl");
        if (kind !== "png") return download(address, "");
        download(await picture(address), "raftlite.png");
      } catch (error) {
        this.app.toast(`It could not be exported: ${error.message}`);
      }
    }

    address(kind) {
      const isPart = byId("export-dialog").querySelector("[name=part]:checked").value === "shown";
      const part = isPart ? `from=${this.app.shown().join("&to=")}&` : "";
      return `export/${kind}?${part}heartbeats=${Number(byId("export-quiet").checked)}`;
    }

    inside() {
      const { header, records } = this.app.recording;
      return new Blob([header, ...records].map((record) => `${JSON.stringify(record)}\n`), { type: "application/x-ndjson" });
    }
  }

  /** Whether the mouse is beside the dialog, and not between two of its parts. */
  function isOutside(dialog, { clientX: x, clientY: y }) {
    const { left, right, top, bottom } = dialog.getBoundingClientRect();
    return x < left || x > right || y < top || y > bottom;
  }

  function download(address, name) {
    const link = html("a", { href: address, download: name });
    document.body.append(link);
    link.click();
    link.remove();
  }

  /** The diagram at `address` as a PNG. */
  async function picture(address) {
    const response = await fetch(address);
    if (!response.ok) throw new Error((await response.json()).error);
    const source = URL.createObjectURL(new Blob([await response.text()], { type: "image/svg+xml" }));
    const image = new Image();
    image.src = source;
    await image.decode();
    const most = 16000; // pixels: a canvas that is longer stays empty
    const scale = Math.min(2, most / Math.max(image.width, image.height));
    const canvas = html("canvas", { width: Math.round(image.width * scale), height: Math.round(image.height * scale) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    URL.revokeObjectURL(source);
    return new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(URL.createObjectURL(blob)) : failed(new Error("it is too large"))), "image/png"));
  }

  Object.assign(raftlite, { Dialogs, download });
})((window.raftlite = window.raftlite || {}));
