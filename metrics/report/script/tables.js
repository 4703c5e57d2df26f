// A link to a folded table opens it, and a box wider than the screen says that it scrolls.

function openTo(id) {
  const target = id && byId(decodeURIComponent(id));
  if (!target) return;
  let hidden = false;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) {
    hidden ||= !fold.open;
    fold.open = true;
  }
  if (hidden) target.scrollIntoView();
}

function sayThatItScrolls(box) {
  const hint = element("p", { class: "hint", "aria-hidden": "true", hidden: "" }, "scroll sideways →");
  box.before(hint);
  const show = () => {
    hint.hidden = box.scrollWidth <= box.clientWidth + 1;
    hint.textContent = box.scrollLeft > 0 ? "← scroll sideways →" : "scroll sideways →";
  };
  new ResizeObserver(show).observe(box);
  box.addEventListener("scroll", show, { passive: true });
  show();
}
