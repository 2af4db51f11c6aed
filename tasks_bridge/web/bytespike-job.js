// <bytespike-job src="…/jobs/<token>">: shows a job, live, until it is over. See docs/live.md. No dependency, no build step.
if (!customElements.get("bytespike-job")) {
  // Under HTTP/1.1 a browser opens six connections to a host, over all its tabs: most are left for everything else.
  const STREAMS = /^h[23]/.test(performance.getEntriesByType("navigation")[0]?.nextHopProtocol) ? 20 : 2;
  const TIMEOUT_S = 15;
  const WATCHDOG_S = 30; // a stream may be dead and not know it
  const UNHEARD_S = 10; // or a proxy keeps its events back
  const DEAF_S = [5, 300]; // until a broken stream is tried again: at first, and at most
  const HIDDEN_S = 15;
  const SOON_S = 1.5;
  const SLOWEST_S = 30;
  const TROUBLE_S = 8; // what is over sooner is nobody's affair
  const EXPECTED = 0.9; // how far a job is said to be when it should be over; the server lets it creep from there

  const CSS = `
:host { display: block; line-height: 1.4;
  --_accent: var(--bytespike-accent, #2563d9); --_error: var(--bytespike-error, #b42318);
  --_muted: var(--bytespike-muted, color-mix(in srgb, currentColor 72%, transparent));
  --_track: var(--bytespike-track, color-mix(in srgb, currentColor 14%, transparent));
  --_radius: var(--bytespike-radius, 0.5rem) }
@supports (color: light-dark(red, red)) { :host {
  --_accent: var(--bytespike-accent, light-dark(#2563d9, #7aabff)); --_error: var(--bytespike-error, light-dark(#b42318, #ff9d94)) } }
:host([hidden]), [hidden] { display: none !important }
.job { display: grid; gap: 0.5rem; outline: none }
.progress { display: flex; flex-wrap: wrap; gap: 0.75rem 1rem; align-items: center }
.outputs:not(:empty) + .progress { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%) }
.main { flex: 1 1 18rem; display: grid; gap: 0.5rem }
.line { display: flex; flex-wrap: wrap; gap: 0 1rem; justify-content: space-between; min-block-size: 1.4em }
.status { font-weight: 600 }
.eta { color: var(--_muted); font-variant-numeric: tabular-nums }
.bar { block-size: 0.5rem; overflow: hidden; border-radius: 1rem; background: var(--_track) }
.fill { block-size: 100%; inline-size: 0; border-radius: inherit; background: var(--_accent); transition: inline-size 1s linear }
.bar:not([aria-valuenow])::before { content: ""; display: block; block-size: 100%; inline-size: 35%; border-radius: inherit;
  background: var(--_accent); animation: seek 2s ease-in-out infinite }
@keyframes seek { from { transform: translateX(-105%) } to { transform: translateX(290%) } }
button { padding: 0.3em 0.9em; font: inherit; color: inherit; cursor: pointer; background: none;
  border: 1px solid color-mix(in srgb, currentColor 40%, transparent); border-radius: var(--_radius) }
button:hover { background: var(--_track) }
button[aria-disabled=true] { cursor: default; background: none; opacity: 0.6 }
:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px }
.error:not(:empty), .unloadable { color: var(--_error); border-inline-start: 3px solid; padding-inline-start: 0.75rem }
p { margin: 0 }
.outputs { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 14rem), 1fr)) }
.outputs:empty, .error:empty { display: none }
figure { display: grid; gap: 0.5rem; margin: 0; align-content: start; justify-items: start }
img, video { display: block; max-inline-size: 100%; block-size: auto; border-radius: var(--_radius); background: var(--_track) }
audio { inline-size: 100% }
a { color: var(--_accent); text-underline-offset: 0.2em; border-radius: 2px }
@media (prefers-reduced-motion: reduce) { .fill { transition: none }
  .bar:not([aria-valuenow])::before { animation: none; inline-size: 100%; opacity: 0.3 } }
@media (forced-colors: active) { .bar { border: 1px solid }
  .fill, .bar::before { forced-color-adjust: none; background: Highlight !important } }`;

  // a live region speaks, and an observer is called, whenever something is written
  const write = (node, text) => node.textContent === text || (node.textContent = text);
  const set = (node, name, value) => {
    if (value === null) node.removeAttribute(name);
    else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
  };

  const make = (tag, part, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    made.className = part;
    for (const [name, value] of Object.entries({ part, ...attributes })) set(made, name, value);
    made.append(...children);
    return made;
  };

  let sheet;
  const style = (root) => {
    try {
      if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(CSS);
      root.adoptedStyleSheets = [sheet];
    } catch { // before Safari 16.4
      root.append(Object.assign(make("style", ""), { textContent: CSS }));
    }
  };

  const streaming = new Set();

  class BytespikeJob extends HTMLElement {
    static observedAttributes = ["src", "label", "alt", "poster", "texts"];

    /** What all elements say; the attribute `texts` (JSON) has what one of them says. An error's key is its code. */
    static texts = {
      lang: "en",
      label: "Generation",
      progress: "Progress",
      queued: "Waiting to start",
      pending: "Waiting to start",
      running: "Generating",
      cancelling: "Cancelling …",
      completed: "Done",
      seconds: "about {n} s left",
      minutes: "about {n} min left",
      almost: "almost done",
      late: "taking longer than usual",
      lost: "Connection lost, trying again …",
      gone: "This is no longer available.",
      cancel: "Cancel",
      not_cancelled: "This could not be cancelled. Please try again.",
      alt: "Generated picture",
      download: "Download",
      unloadable: "This file can’t be loaded. Its address may have expired.",
    };

    #isOn = false;
    #isGone = false;
    #isCancelling = false;
    #note = ""; // key of a text
    #texts = {};
    #job = null; // the latest document, …
    #text; // … as it came, …
    #base; // … from where, …
    #at = 0; // … and when
    #done = 0; // how far the bar was then
    #left; // seconds that were last said to be left
    #request = null;
    #stream = null;
    #isLive = false; // whether the stream has brought something, …
    #heardAt = 0; // … and when it last did, or began
    #deafUntil = 0;
    #deafS = DEAF_S[0];
    #failures = 0;
    #troubleAt;
    #timer;
    #ticker;
    #ui = {};

    constructor() {
      super();
      const ui = this.#ui;
      ui.outputs = make("div", "outputs");
      ui.status = make("span", "status", { role: "status" });
      ui.eta = make("span", "eta");
      ui.fill = make("div", "fill");
      ui.bar = make("div", "bar", { role: "progressbar" }, ui.fill);
      ui.cancel = make("button", "cancel", { type: "button" });
      ui.cancel.onclick = () => this.cancel();
      ui.line = make("div", "line", {}, ui.status, ui.eta);
      ui.main = make("div", "main", {}, ui.line, ui.bar);
      ui.progress = make("div", "progress", {}, ui.main, ui.cancel);
      ui.error = make("p", "error", { role: "alert" });
      ui.all = make("div", "job", { role: "group", tabindex: -1 }, ui.outputs, ui.progress, ui.error);
      const root = this.attachShadow({ mode: "open" });
      style(root);
      root.append(ui.all);
    }

    /** The latest document; null before the first. */
    get job() {
      return this.#job;
    }

    /** Have the job cancelled, as the button does. */
    async cancel() {
      const job = this.#job;
      if (!job?.cancel_url || job.is_cancelling || this.#isCancelling || !this.#tell("cancel")) return;
      this.#isCancelling = true;
      this.#note = "";
      this.#draw();
      try {
        const answer = await fetch(new URL(job.cancel_url, this.#base), { method: "POST", signal: AbortSignal.timeout(1000 * TIMEOUT_S) });
        if (!answer.ok) throw new Error(answer.status);
        await this.#ask();
      } catch {
        this.#note = "not_cancelled";
      }
      this.#isCancelling = false;
      this.#draw();
    }

    connectedCallback() {
      this.#isOn = true;
      document.addEventListener("visibilitychange", this);
      addEventListener("online", this);
      this.#read();
      this.#draw();
      this.#ask();
    }

    disconnectedCallback() {
      this.#isOn = false;
      document.removeEventListener("visibilitychange", this);
      removeEventListener("online", this);
      this.#rest();
    }

    connectedMoveCallback() {} // moveBefore() leaves everything as it is

    attributeChangedCallback(name, before, now) {
      if (!this.#isOn || before === now) return;
      this.#ui.outputs.replaceChildren();
      if (name === "src") {
        this.#rest();
        this.#job = this.#text = null;
        this.#isGone = this.#isCancelling = false;
        this.#failures = this.#deafUntil = 0;
        this.#ask();
      }
      this.#read();
      this.#draw();
    }

    handleEvent() {
      if (this.#isOver) return;
      if (document.hidden) this.#next();
      else this.#ask();
    }

    get #isOver() {
      return this.#isGone || Boolean(this.#job?.is_over);
    }

    // -- what is known ------------------------------------------------------------------------------------------------

    async #ask() {
      const source = this.getAttribute("src");
      if (!source) return;
      clearTimeout(this.#timer);
      this.#request?.abort();
      const request = (this.#request = new AbortController());
      const limit = setTimeout(() => request.abort(), 1000 * TIMEOUT_S);
      let waitS;
      try {
        // the browser's cache adds If-None-Match
        const answer = await fetch(source, { cache: "no-cache", signal: request.signal });
        if (answer.status >= 500 || [408, 425, 429].includes(answer.status)) {
          waitS = Number(answer.headers.get("Retry-After"));
          throw new Error(answer.status);
        }
        const text = await answer.text();
        if (this.#request !== request) return;
        // a stream that has been silent for so long should have said this
        const isSilent = performance.now() - this.#heardAt > 1000 * UNHEARD_S;
        if (this.#stream && isSilent && (!this.#isLive || text !== this.#text)) this.#hangUp(true);
        this.#base = answer.url;
        this.#isGone = !answer.ok;
        if (answer.ok) this.#take(text);
      } catch {
        if (this.#request !== request) return; // nobody wants to know any more
        this.#failures += 1;
        this.#troubleAt ??= performance.now();
        waitS = Math.max(Math.min(2 ** this.#failures / 2, SLOWEST_S), waitS || 0);
      } finally {
        clearTimeout(limit);
      }
      this.#request = null;
      this.#next(waitS);
    }

    #listen() {
      const url = this.#job?.events_url;
      if (!url || this.#stream || streaming.size >= STREAMS || performance.now() < this.#deafUntil) return;
      const stream = (this.#stream = new EventSource(new URL(url, this.#base)));
      streaming.add(this);
      this.#heardAt = performance.now();
      stream.onmessage = ({ data }) => {
        this.#request?.abort(); // what it would bring is older
        this.#request = null;
        this.#isLive = true;
        this.#heardAt = performance.now();
        this.#deafS = DEAF_S[0];
        this.#take(data);
        this.#next();
      };
      stream.onerror = () => {
        this.#hangUp(!this.#isLive);
        this.#next(SOON_S);
      };
    }

    #hangUp(isBroken) {
      this.#stream?.close();
      this.#stream = null;
      this.#isLive = false;
      streaming.delete(this);
      if (!isBroken) return;
      this.#deafUntil = performance.now() + 1000 * this.#deafS;
      this.#deafS = Math.min(2 * this.#deafS, DEAF_S[1]);
    }

    #take(text) {
      if (text !== this.#text) {
        const job = JSON.parse(text);
        this.#done = Math.max(this.#job ? this.#share() : 0, job.progress);
        this.#text = text;
        this.#job = job;
        this.#at = performance.now();
        this.#draw();
        this.#tell("change");
        if (job.is_over) this.#tell("end");
      }
      this.#failures = 0;
      this.#troubleAt = undefined;
    }

    /** Go on, and ask again after *waitS*, or when it is time. */
    #next(waitS) {
      this.#draw();
      if (!this.#isOn || this.#isOver) return this.#rest();
      if (document.hidden) this.#hangUp();
      else if (waitS === undefined) this.#listen();
      waitS ??= this.#isLive ? WATCHDOG_S : Math.max(this.#job?.poll_s || 0, document.hidden ? HIDDEN_S : 1);
      clearTimeout(this.#timer);
      // a server that was away is not asked by all viewers at once
      this.#timer = setTimeout(() => this.#ask(), 1000 * waitS * (0.75 + Math.random() / 2));
      this.#ticker ??= setInterval(() => this.#draw(), 1000);
    }

    #rest() {
      clearTimeout(this.#timer);
      this.#ticker = clearInterval(this.#ticker);
      this.#request?.abort();
      this.#request = null;
      this.#hangUp();
    }

    #tell(what) {
      const options = { detail: this.#job, bubbles: true, composed: true, cancelable: what === "cancel" };
      return this.dispatchEvent(new CustomEvent(`bytespike-${what}`, options));
    }

    // -- what is shown ------------------------------------------------------------------------------------------------

    #read() {
      try {
        this.#texts = JSON.parse(this.getAttribute("texts") || "{}");
      } catch (error) {
        console.error(`bytespike-job: its texts are no JSON: ${error.message}`);
      }
    }

    #say(key, n) {
      const texts = [this.#texts, BytespikeJob.texts].find((texts) => Object.hasOwn(texts, key));
      return texts && String(texts[key]).replace("{n}", n);
    }

    /** How far it is, in [0, 1): on from the latest document at the pace that its estimate asks for, and never back. */
    #share() {
      const sinceS = (performance.now() - this.#at) / 1000;
      if (!this.#job.eta_s || this.#done >= EXPECTED) return this.#done;
      return this.#done + (EXPECTED - this.#done) * Math.min(sinceS / this.#job.eta_s, 1);
    }

    #eta(share) {
      if (this.#job.is_late) return this.#say("late");
      let leftS = this.#job.eta_s - (performance.now() - this.#at) / 1000;
      if (share >= EXPECTED || leftS < 5) return this.#say("almost");
      // a little more than was said is not worth a word
      if (leftS > this.#left && leftS < 1.3 * this.#left + 5) leftS = this.#left;
      const step = leftS > 90 ? 60 : leftS > 15 ? 10 : 5;
      this.#left = Math.ceil(leftS / step) * step;
      return step === 60 ? this.#say("minutes", this.#left / 60) : this.#say("seconds", this.#left);
    }

    #draw() {
      const { all, outputs, progress, status, eta, bar, fill, cancel, error } = this.#ui;
      const job = this.#job;
      const isOpen = !this.#isOver;
      const isTrouble = performance.now() - this.#troubleAt > 1000 * TROUBLE_S;
      const isCancelling = isOpen && (this.#isCancelling || Boolean(job?.is_cancelling));
      const isFailed = ["FAILED", "EXPIRED"].includes(job?.state);
      const why = job?.error ? (this.#say(job.error.code) ?? job.error.message) : "";
      const happens = isTrouble ? "lost" : isCancelling ? "cancelling" : (job?.state.toLowerCase() ?? "");

      set(this, "state", job ? job.state : null);
      set(all, "lang", this.#say("lang"));
      set(all, "aria-label", this.getAttribute("label") || this.#say("label"));
      write(status, this.#isGone || isFailed ? "" : why || (this.#say(happens) ?? ""));
      write(error, this.#isGone ? this.#say("gone") : isFailed ? why : isOpen && this.#note ? this.#say(this.#note) : "");

      const isKnown = isOpen && Number.isFinite(job?.eta_s);
      const share = isKnown ? this.#share() : 0;
      write(eta, isKnown && !isTrouble && !isCancelling ? this.#eta(share) : "");
      fill.style.inlineSize = `${100 * share}%`;
      const percent = Math.min(Math.floor(100 * share), 99);
      set(bar, "aria-label", this.#say("progress"));
      set(bar, "aria-valuenow", isKnown ? percent : null);
      set(bar, "aria-valuetext", isKnown ? [`${percent} %`, eta.textContent].filter(Boolean).join(", ") : null);

      const hadFocus = this.shadowRoot.activeElement === cancel;
      bar.hidden = !isOpen;
      progress.hidden = !isOpen && !status.textContent;
      cancel.hidden = !isOpen || !job?.cancel_url;
      if (hadFocus && cancel.hidden) all.focus();
      write(cancel, this.#say("cancel"));
      set(cancel, "aria-disabled", isCancelling);

      if (isOpen || outputs.firstChild) return;
      const made = (job?.outputs ?? []).filter(({ url }) => /^https?:/i.test(url));
      outputs.append(...made.map((output, index) => this.#show(output, made.length > 1 ? ` ${index + 1}` : "")));
    }

    #show({ url, type, width, height }, number) {
      const figure = make("figure", "output");
      const kind = /^(image|video|audio)\b/.exec(type)?.[0];
      if (kind) {
        const media = make(kind === "image" ? "img" : kind, kind);
        const name = this.getAttribute("alt") ?? (this.getAttribute("label") || this.#say("alt")) + number;
        if (kind === "image") Object.assign(media, { alt: name, referrerPolicy: "no-referrer" });
        else Object.assign(media, { ariaLabel: name, controls: true, playsInline: true, preload: "metadata" });
        if (kind === "video") media.poster = this.getAttribute("poster") ?? "";
        if (width > 0 && height > 0) {
          Object.assign(media, { width, height });
          media.style.maxInlineSize = `min(100%, ${(80 * width) / height}vh)`; // all of it fits into the window
        }
        media.onerror = () => {
          figure.replaceChildren(Object.assign(make("p", "unloadable"), { textContent: this.#say("unloadable") }));
        };
        media.src = url;
        figure.append(media);
      }
      const link = make("a", "download", { href: url, download: "", target: "_blank", rel: "noopener noreferrer" });
      link.textContent = this.#say("download") + number;
      figure.append(link);
      return figure;
    }
  }

  customElements.define("bytespike-job", BytespikeJob);
}
