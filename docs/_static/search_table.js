// A field above every table of the class "searchable": it shows the rows that have all of its words.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.searchable")) {
    const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
    const field = document.createElement("input");
    const count = document.createElement("p");
    field.type = "search";
    field.className = "form-control search-table";
    field.placeholder = "Search: deit 384 apache";
    field.setAttribute("aria-label", "Search in the table");
    count.setAttribute("aria-live", "polite");
    const show = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, text] of rows) {
        const found = words.every((word) => text.includes(word));
        row.hidden = !found;
        shown += found;
      }
      count.textContent = `${shown} of ${rows.length}`;
    };
    field.addEventListener("input", show);
    const place = table.closest(".pst-scrollable-table-container") || table;
    place.before(field, count);
    show();
  }
});
