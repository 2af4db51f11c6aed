// <bytespike-job src="…/jobs/<token>">: shows a job until it is over.
customElements.define("bytespike-job", class extends HTMLElement {
  async connectedCallback() {
    while (this.isConnected) {
      const answer = await fetch(this.getAttribute("src"), { cache: "no-cache" });
      if (!answer.ok) return;
      const job = await answer.json();
      this.textContent = `${job.state} ${Math.round(job.progress * 100)} %`;
      if (job.is_over) return;
      await new Promise((resume) => setTimeout(resume, job.poll_s * 1000));
    }
  }
});
