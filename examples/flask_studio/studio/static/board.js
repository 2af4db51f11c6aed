// When a shot has ended, look for the contact sheet. The shots themselves follow their jobs without any of this.

const shown = document.getElementById("sheet");

async function look() {
  const answer = await fetch(location.href);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const sheet = page.getElementById("sheet");
  if (sheet.textContent !== shown.textContent) shown.replaceChildren(...sheet.childNodes);
  // a picture is saved a moment after its job has ended, and the sheet made after that
  const jobs = [...document.querySelectorAll("bytespike-job")];
  if ("waits" in sheet.dataset && jobs.every(({ job }) => job?.state === "COMPLETED")) setTimeout(look, 2000);
}

addEventListener("bytespike-end", () => setTimeout(look, 1000));
