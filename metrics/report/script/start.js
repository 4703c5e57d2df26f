// Tables at once; curves and examples when the reader comes near them, so that their data isn't unpacked for nothing.

function whenNear(id, make) {
  const section = byId(id);
  if (!section) return;
  let made = false;
  const once = () => {
    if (made) return;
    made = true;
    watcher.disconnect();
    make();
  };
  const watcher = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && once(), { rootMargin: "800px" });
  watcher.observe(section);
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table[data-sortable]").forEach(makeSortable);
  document.querySelectorAll("main .table .wide").forEach(sayThatItScrolls);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']"); // also one that was followed before, whose table was folded again
    if (link) openTo(link.hash.slice(1));
  });
  addEventListener("hashchange", () => openTo(location.hash.slice(1)));
  openTo(location.hash.slice(1));
  whenNear("curves", () => new Curves());
  whenNear("examples", () => new Browser());
});
