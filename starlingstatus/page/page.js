"use strict";

const live = document.getElementById("live");

function say(text) {
  if (live) live.textContent = text;
}

// Elements come from the server, which has escaped what is in them.
function replace(id, html) {
  const old = document.getElementById(id);
  if (old) old.outerHTML = html;
}

function listen() {
  const events = new EventSource("fragments");
  events.addEventListener("open", () => say("Live."));
  events.addEventListener("parts", (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) replace(id, html);
  });
  events.addEventListener("error", () => {
    say("Not live: the member does not answer.");
    if (events.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    setTimeout(listen, 10000);
  });
}

async function probe(event) {
  event.preventDefault();
  const form = event.target;
  const button = form.querySelector("button");
  const result = document.getElementById("result");
  button.disabled = true;
  result.textContent = "Asking…";
  try {
    const answer = await fetch(form.action, { method: "POST", headers: { Accept: "text/html" } });
    const text = await answer.text();
    if (!answer.ok) throw new Error(text);
    const page = new DOMParser().parseFromString(text, "text/html");
    result.replaceWith(page.getElementById("result"));
  } catch (error) {
    result.textContent = error.message;
  }
  button.disabled = false;
}

const form = document.querySelector("#probe form");
if (form) form.addEventListener("submit", probe);
if (live) listen();
