// Lists the boats that are in, and says how the tide stands. Works without it, too.
import { heightAt } from "./tide.js";

const list = document.querySelector("#boat-list");

async function showBoats() {
  const answer = await fetch(list.dataset.source);
  if (!answer.ok) {
    list.replaceChildren(item("The board by the slip knows."));
    return;
  }
  const boats = await answer.json();
  list.replaceChildren(...boats.filter((boat) => boat.in).map((boat) => item(boat.name)));
}

function item(text) {
  const li = document.createElement("li");
  li.textContent = text;
  return li;
}

function showTide() {
  const metres = heightAt(new Date());
  document.querySelector("#tide-now").textContent = `About ${metres.toFixed(1)} m right now.`;
}

if (list) {
  showTide();
  showBoats().catch((error) => console.error("boats:", error));
}
