"use strict";
// A table that is wider than the screen says that it can be scrolled.
function markWideTables() {
  for (const box of document.querySelectorAll(".wide")) {
    box.classList.toggle("scrolls", box.scrollWidth > box.clientWidth + 1);
  }
}
addEventListener("resize", markWideTables);
document.addEventListener("toggle", markWideTables, true);
markWideTables();
