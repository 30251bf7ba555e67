// Sortable tables, and what the page holds packed: circuits, long tables, token views. Nothing is fetched.

/** The text of a script element that holds it as deflate in base64. */
async function unpacked(script) {
  const bytes = Uint8Array.from(atob(script.textContent), char => char.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"))).text();
}

/** What a cell is sorted by: its own key, else the number in full, else its text. */
function sortKey(cell) {
  return cell?.dataset.sort ?? (cell?.classList.contains("num") ? cell.title : cell?.textContent) ?? "";
}

function makeSortable(table) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const number = head.classList.contains("num"), was = head.getAttribute("aria-sort");
    const down = was ? was === "ascending" : number, way = down ? -1 : 1;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = [...body.rows].map(row => [sortKey(row.cells[column]), row]);
    keyed.sort(([x], [y]) => {
      if (x === "" || y === "") return x === y ? 0 : x === "" ? 1 : -1;
      return way * (number ? Number(x) - Number(y) : x.localeCompare(y, undefined, { numeric: true }));
    });
    body.append(...keyed.map(([, row]) => row));
  }));
}

/** A long table, once its block is opened. The page wrote its HTML, with every text escaped. */
async function unfold(box) {
  box.innerHTML = await unpacked(box.querySelector("script"));
  box.querySelectorAll("table.data").forEach(makeSortable);
}

async function mountCircuit(box) {
  return emocircuitsViewer.mount(box, JSON.parse(await unpacked(box.querySelector("script"))));
}

/** CircuitsVis and its calls, as one script. */
async function showTokens(packed) {
  const script = document.createElement("script");
  script.textContent = await unpacked(packed);
  document.body.append(script);
}

document.querySelectorAll("table.data").forEach(makeSortable);
const circuits = [];
if ("DecompressionStream" in window) {
  for (const box of document.querySelectorAll(".unfolded")) {
    box.parentElement.addEventListener("toggle", () => unfold(box), { once: true });
  }
  Promise.all([...document.querySelectorAll(".circuit")].map(mountCircuit)).then(mounted => {
    circuits.push(...mounted);
    const packed = document.getElementById("token-script");
    if (packed) showTokens(packed);
  });
}
