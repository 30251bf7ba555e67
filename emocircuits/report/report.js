// Sortable tables and live circuits; nothing is fetched.
for (const table of document.querySelectorAll("table.data")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const number = head.classList.contains("num"), was = head.getAttribute("aria-sort");
    const down = was ? was === "ascending" : number, way = down ? -1 : 1;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[column]?.dataset.sort ?? "";
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1;
      return way * (number ? Number(x) - Number(y) : x.localeCompare(y, undefined, { numeric: true }));
    });
    body.append(...rows);
  }));
}
const circuits = [...document.querySelectorAll(".circuit")].map(box =>
  emocircuitsViewer.mount(box, JSON.parse(document.getElementById(box.dataset.graph).textContent)));
