// Brings an open job's page up to date without losing the place: soon at first, since most jobs take milliseconds, then
// every two seconds. Stops once the job is final.
"use strict";

const LONGEST_WAIT = 2000;
let wait = 250;

async function refresh() {
  try {
    const answer = await fetch(window.location.href, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const job = page.getElementById("job");
    if (answer.ok && job === null) {
      // Logged out meanwhile, or the job is gone: show what the portal says.
      window.location.reload();
      return;
    }
    if (job !== null) {
      document.getElementById("job").replaceWith(document.adoptNode(job));
    }
  } catch (error) {
    // The portal is away: it may come back.
    console.warn("The portal can't be reached; trying again.", error);
  }
  next();
}

function next() {
  if (document.querySelector("#job[data-open]") !== null) {
    window.setTimeout(refresh, wait);
    wait = Math.min(2 * wait, LONGEST_WAIT);
  }
}

next();
