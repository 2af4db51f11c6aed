// <bytespike-job src="…/jobs/<token>">: shows a job, live, until it is over. See docs/live.md. No dependency, no build step.

if (!customElements.get("bytespike-job")) {
  // Under HTTP/1.1 a browser opens six connections to a host, over all its tabs: most are left for everything else.
  const STREAMS = /^h[23]/.test(performance.getEntriesByType("navigation")[0]?.nextHopProtocol) ? 20 : 2;
  const TIMEOUT_S = 15;
  const UNHEARD_S = 10; // a proxy that keeps events back
  const WATCHDOG_S = 30; // a stream may be dead and not know it
  const DEAF_S = [5, 300]; // until a stream is tried again
  const HIDDEN_S = 15;
  const SLOWEST_S = 30;
  const SOON_S = 1.5;
  const PASSING = [408, 425, 429];
  const TROUBLE_S = 8; // what is over sooner is nobody's affair
  const EXPECTED = 0.9; // how far a job is said to be when it should be over; it creeps from there

  const CSS = `
:host { display: block; line-height: 1.4;
  --_accent: var(--bytespike-accent, #2563d9);
  --_error: var(--bytespike-error, #b42318);
  --_muted: var(--bytespike-muted, color-mix(in srgb, currentColor 72%, transparent));
  --_track: var(--bytespike-track, color-mix(in srgb, currentColor 14%, transparent));
  --_radius: var(--bytespike-radius, 0.5rem) }
@supports (color: light-dark(red, red)) { :host {
  --_accent: var(--bytespike-accent, light-dark(#2563d9, #7aabff));
  --_error: var(--bytespike-error, light-dark(#b42318, #ff9d94)) } }
:host([hidden]), [hidden], p:empty { display: none !important }
.job { display: grid; gap: 0.5rem; outline: none }
.line { display: flex; flex-wrap: wrap; gap: 0 1rem; align-items: baseline; justify-content: space-between; min-block-size: 1.4em }
.status { font-weight: 600 }
.eta { color: var(--_muted); font-variant-numeric: tabular-nums }
.track { display: flex; gap: 1rem; align-items: center }
.bar { flex: 1; block-size: 0.5rem; overflow: hidden; border-radius: 1rem; background: var(--_track) }
.fill { block-size: 100%; inline-size: 0; border-radius: inherit; background: var(--_accent); transition: inline-size 1s linear }
.bar:not([aria-valuenow])::before { content: ""; display: block; block-size: 100%; inline-size: 35%; border-radius: inherit;
  background: var(--_accent); animation: seek 2s ease-in-out infinite }
@keyframes seek { from { transform: translateX(-105%) } to { transform: translateX(290%) } }
button, a { font: inherit; border-radius: calc(var(--_radius) * 0.75) }
button { color: inherit; cursor: pointer; padding: 0.25em 0.9em; background: none; border: 1px solid color-mix(in srgb, currentColor 40%, transparent) }
button:hover { background: var(--_track) }
button[aria-disabled=true] { cursor: default; background: none; opacity: 0.6 }
a { color: var(--_accent); text-underline-offset: 0.2em }
:focus-visible { outline: 2px solid var(--_accent); outline-offset: 2px }
.error, .unloadable { margin: 0; color: var(--_error) }
.outputs { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 14rem), 1fr)) }
figure { display: grid; gap: 0.5rem; margin: 0; align-content: start; justify-items: start }
img, video { display: block; max-inline-size: 100%; block-size: auto; border-radius: var(--_radius); background: var(--_track) }
audio { inline-size: 100% }
@media (prefers-reduced-motion: reduce) { .fill { transition: none }
  .bar:not([aria-valuenow])::before { animation: none; inline-size: 100%; opacity: 0.3 } }
@media (forced-colors: active) { .bar { border: 1px solid }
  .fill, .bar::before { forced-color-adjust: none; background: Highlight !important } }`;

  const make = (tag, part, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    made.className = part;
    for (const [name, value] of Object.entries({ part, ...attributes })) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  let sheet;
  const style = (root) => {
    try {
      if (!sheet) (sheet = new CSSStyleSheet()).replaceSync(CSS);
      root.adoptedStyleSheets = [sheet];
    } catch { // before Safari 16.4
      const own = make("style", "");
      own.textContent = CSS;
      root.append(own);
    }
  };

  // a live region speaks whenever it is written to
  const write = (node, text) => node.textContent === text || (node.textContent = text);

  const webUrl = (text, base) => {
    try {
      const url = new URL(text, base);
      return /^https?:$/.test(url.protocol) ? url.href : null;
    } catch {
      return null;
    }
  };

  const streaming = new Set();

  class BytespikeJob extends HTMLElement {
    static observedAttributes = ["src", "label", "alt", "poster", "texts"];

    /** What all elements say; the attribute `texts` (JSON) has what one says. A key may be an error's code, too. */
    static texts = {
      lang: "en",
      label: "Generation",
      queued: "Waiting to start",
      pending: "Waiting to start",
      running: "Generating",
      completed: "Done",
      cancelling: "Cancelling …",
      seconds: "about {n} s left",
      minutes: "about {n} min left",
      almost: "almost done",
      late: "taking longer than usual",
      progress: "Progress",
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
    #texts = {};
    #job = null; // the latest document, …
    #text; // … as it came, …
    #base; // … from where, …
    #at = 0; // … and when
    #done = 0; // how far the bar was then
    #left = Infinity; // seconds that were last said to be left
    #request = null;
    #stream = null;
    #isLive = false; // whether the stream has brought something
    #streamAt = 0;
    #deafUntil = 0;
    #deafS = DEAF_S[0];
    #failures = 0;
    #troubleAt;
    #isCancelling = false;
    #note = "";
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
      ui.bar = make("div", "bar", { role: "progressbar", "aria-valuemax": 100 }, ui.fill);
      ui.cancel = make("button", "cancel", { type: "button" });
      ui.cancel.onclick = () => this.cancel();
      ui.line = make("div", "line", {}, ui.status, ui.eta);
      ui.track = make("div", "track", {}, ui.bar, ui.cancel);
      ui.error = make("p", "error", { role: "alert" });
      ui.all = make("div", "job", { role: "group", tabindex: -1 }, ui.outputs, ui.line, ui.track, ui.error);
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
      const url = this.#job?.cancel_url;
      if (!url || this.#isCancelling || this.#job.is_cancelling || !this.#tell("cancel")) return;
      this.#isCancelling = true;
      this.#note = "";
      this.#draw();
      try {
        const answer = await fetch(new URL(url, this.#base), { method: "POST", headers: { Accept: "application/json" } });
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
      if (name === "src") {
        this.#rest();
        this.#isGone = false;
        this.#failures = this.#deafUntil = 0;
        this.#ask();
      } else {
        this.#read();
        this.#ui.outputs.replaceChildren();
        this.#draw();
      }
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
      const source = webUrl(this.getAttribute("src") || "data:", document.baseURI);
      if (!source) return;
      clearTimeout(this.#timer);
      this.#request?.abort();
      const request = (this.#request = new AbortController());
      const limit = setTimeout(() => request.abort(), 1000 * TIMEOUT_S);
      let waitS;
      try {
        // with If-None-Match, from the browser's own cache
        const answer = await fetch(source, { cache: "no-cache", headers: { Accept: "application/json" }, signal: request.signal });
        if (answer.status >= 500 || PASSING.includes(answer.status)) {
          waitS = Number(answer.headers.get("Retry-After"));
          throw new Error(answer.status);
        }
        const text = await answer.text();
        if (this.#request !== request) return;
        this.#base = answer.url;
        this.#isGone = !answer.ok;
        if (answer.ok) this.#check(text);
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
      this.#streamAt = performance.now();
      stream.onmessage = ({ data }) => {
        this.#request?.abort(); // what it would bring is older
        this.#request = null;
        this.#isLive = true;
        this.#deafS = DEAF_S[0];
        this.#take(data);
        this.#next();
      };
      stream.onerror = () => {
        this.#hangUp(!this.#isLive);
        this.#next(SOON_S);
      };
    }

    /** What was asked for shows whether the stream tells everything. */
    #check(text) {
      const isUnheard = performance.now() - this.#streamAt > 1000 * UNHEARD_S;
      if (this.#stream && (this.#isLive ? text !== this.#text : isUnheard)) this.#hangUp(true);
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
        const isSame = job.id === this.#job?.id;
        this.#done = isSame ? Math.max(this.#share(), job.progress) : job.progress;
        if (!isSame) this.#left = Infinity;
        this.#text = text;
        this.#job = job;
        this.#at = performance.now();
        this.#ui.outputs.replaceChildren();
        this.#draw();
        this.#tell("change");
        if (job.is_over) this.#tell("end");
      }
      this.#failures = 0;
      this.#troubleAt = undefined;
    }

    /** Go on: ask again after about *waitS* seconds, or when it is time. */
    #next(waitS) {
      this.#draw();
      if (!this.#isOn || this.#isOver) return this.#rest();
      if (document.hidden) this.#hangUp();
      else if (waitS === undefined) this.#listen();
      const pollS = Math.max(this.#job?.poll_s || 0, document.hidden ? HIDDEN_S : 1);
      clearTimeout(this.#timer);
      // not all at once, after a server was away
      this.#timer = setTimeout(() => this.#ask(), 1000 * (waitS ?? (this.#isLive ? WATCHDOG_S : pollS)) * (0.75 + Math.random() / 2));
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
        console.error("bytespike-job: the attribute texts is no JSON:", error.message);
      }
    }

    #say(key) {
      for (const texts of [this.#texts, BytespikeJob.texts]) if (Object.hasOwn(texts, key)) return texts[key];
    }

    /** How far it is, in [0, 1): on from the latest document at the pace that its estimate asks for, and never back. */
    #share() {
      const { eta_s: etaS } = this.#job;
      const sinceS = (performance.now() - this.#at) / 1000;
      if (!etaS || this.#done >= EXPECTED) return this.#done;
      return this.#done + (EXPECTED - this.#done) * Math.min(sinceS / etaS, 1);
    }

    #eta(share) {
      const job = this.#job;
      if (job.is_late) return this.#say("late");
      let leftS = job.eta_s - (performance.now() - this.#at) / 1000;
      if (share >= EXPECTED || leftS < 5) return this.#say("almost");
      // a little more than before is not worth a word
      if (leftS > this.#left && leftS < 1.3 * this.#left + 5) leftS = this.#left;
      const step = leftS > 90 ? 60 : leftS > 15 ? 10 : 5;
      this.#left = Math.ceil(leftS / step) * step;
      return this.#left > 90 ? this.#say("minutes").replace("{n}", this.#left / 60) : this.#say("seconds").replace("{n}", this.#left);
    }

    #draw() {
      const { all, outputs, line, status, eta, track, bar, fill, cancel, error } = this.#ui;
      const job = this.#job;
      const isOpen = !this.#isOver;
      const isTrouble = performance.now() - this.#troubleAt > 1000 * TROUBLE_S;
      const isCancelling = isOpen && (this.#isCancelling || Boolean(job?.is_cancelling));
      const state = job?.state ?? "";
      const isFailed = state === "FAILED" || state === "EXPIRED";
      const why = job?.error ? (this.#say(job.error.code) ?? job.error.message) : "";

      if (state) this.setAttribute("state", state);
      all.lang = this.#say("lang");
      all.setAttribute("aria-label", this.getAttribute("label") || this.#say("label"));
      const happens = isTrouble ? "lost" : isCancelling ? "cancelling" : state.toLowerCase();
      write(status, this.#isGone || isFailed ? "" : job?.error ? why : (this.#say(happens) ?? ""));
      write(error, this.#isGone ? this.#say("gone") : isFailed ? why : isOpen && this.#note ? this.#say(this.#note) : "");
      line.hidden = !status.textContent && !isOpen;

      const isKnown = isOpen && Number.isFinite(job?.eta_s);
      const share = isKnown ? this.#share() : 0;
      write(eta, isKnown && !isTrouble && !isCancelling ? this.#eta(share) : "");
      track.hidden = !isOpen;
      fill.style.inlineSize = `${100 * share}%`;
      bar.setAttribute("aria-label", this.#say("progress"));
      if (isKnown) {
        const percent = Math.min(Math.floor(100 * share), 99);
        bar.setAttribute("aria-valuenow", percent);
        bar.setAttribute("aria-valuetext", [`${percent} %`, eta.textContent].filter(Boolean).join(", "));
      } else {
        bar.removeAttribute("aria-valuenow");
        bar.removeAttribute("aria-valuetext");
      }

      const hadFocus = this.shadowRoot.activeElement === cancel;
      cancel.hidden = !isOpen || !job?.cancel_url;
      if (hadFocus && cancel.hidden) all.focus();
      write(cancel, this.#say("cancel"));
      cancel.setAttribute("aria-disabled", isCancelling);

      const made = isOpen ? [] : (job?.outputs ?? []);
      if (made.length && !outputs.childElementCount) outputs.append(...made.flatMap((output, number) => this.#output(output, made.length > 1 && number + 1)));
      outputs.hidden = !outputs.childElementCount;
    }

    #output({ url, type, width, height }, number) {
      const href = webUrl(url);
      if (!href) return [];
      const kind = { image: "img", video: "video", audio: "audio" }[/^[a-z]*/.exec(type)[0]];
      const link = make("a", "download", { href, download: "", target: "_blank", rel: "noopener noreferrer" });
      link.textContent = [this.#say("download"), number].filter(Boolean).join(" ");
      if (!kind) return make("figure", "output", {}, link);
      const name = this.getAttribute("alt") ?? [this.getAttribute("label") || this.#say("alt"), number].filter(Boolean).join(" ");
      const media = make(kind, kind === "img" ? "image" : kind);
      const figure = make("figure", "output", {}, media, link);
      if (kind === "img") {
        media.alt = name;
        media.referrerPolicy = "no-referrer";
      } else {
        media.setAttribute("aria-label", name);
        Object.assign(media, { controls: true, playsInline: true, preload: "metadata" });
        if (this.hasAttribute("poster")) media.poster = this.getAttribute("poster");
      }
      if (width > 0 && height > 0) {
        media.width = width;
        media.height = height;
        media.style.maxInlineSize = `min(100%, ${(80 * width) / height}vh)`; // all of it fits into the window
      }
      media.onerror = () => {
        const text = make("p", "unloadable");
        text.textContent = this.#say("unloadable");
        figure.replaceChildren(text);
      };
      media.src = href;
      return figure;
    }
  }

  customElements.define("bytespike-job", BytespikeJob);
}
