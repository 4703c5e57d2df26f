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
  whenNear("curves", () => new Curves());
  whenNear("examples", () => new Browser());
});
