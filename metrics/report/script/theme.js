// Light, dark, or as the system has it. Runs in the head, so that nothing is painted in the wrong colours first.
const root = document.documentElement;
root.classList.add("scripted"); // what stands in for the scripts' work goes
const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
try {
  const kept = localStorage.getItem("edgewise-theme");
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
} catch { /* a page opened from a file may have no storage */ }
document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  const name = () => {
    button.textContent = dark() ? "Light colours" : "Dark colours";
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try {
      localStorage.setItem("edgewise-theme", root.dataset.theme);
    } catch { /* then it is not kept */ }
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();
});
