"use strict";

// A click on a header sorts by its column, another one turns the order; cells without a value stay last.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const th = button.closest("th"), table = th.closest("table"), column = th.cellIndex;
    const first = th.dataset.first || "descending";
    const other = first === "descending" ? "ascending" : "descending";
    const order = th.getAttribute("aria-sort") === first ? other : first;
    for (const each of table.querySelectorAll("th")) each.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", order);
    const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const by = column === 0 ? x.localeCompare(y, undefined, { numeric: true }) : Number(x) - Number(y);
      return order === "ascending" ? by : -by;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  });
}
