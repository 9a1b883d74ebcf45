// Brings the page of an open job, batch, schedule or delivery up to date without losing the place: soon at first, since
// most jobs take milliseconds, then every two seconds, or as many milliseconds as the page says. Stops once it is final.
"use strict";

const LONGEST_WAIT = 2000;
const SHOWN = document.querySelector("[data-open]").id;
let wait = 250;

async function refresh() {
  try {
    const answer = await fetch(window.location.href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const shown = page.getElementById(SHOWN);
    if (answer.ok && shown === null) {
      // Logged out meanwhile, or it is gone: show what the portal says.
      window.location.reload();
      return;
    }
    if (shown !== null) {
      document.getElementById(SHOWN).replaceWith(document.adoptNode(shown));
    }
  } catch (error) {
    // The portal is away: it may come back.
    console.warn("The portal can't be reached; trying again.", error);
  }
  next();
}

function next() {
  if (document.querySelector("[data-open]") !== null) {
    window.setTimeout(refresh, wait);
    wait = Math.min(2 * wait, Number(document.getElementById(SHOWN).dataset.open) || LONGEST_WAIT);
  }
}

next();
