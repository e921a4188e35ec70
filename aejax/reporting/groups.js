(() => {
  const field = document.getElementById("groups-search");
  const counted = document.getElementById("groups-found");
  const lines = [...document.querySelectorAll("#groups-table tbody tr")];
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let found = 0;
    for (const line of lines) {
      const name = line.cells[0].textContent.toLowerCase();
      line.hidden = !name.includes(wanted);
      found += !line.hidden;
    }
    const none = "none of these; the table of all groups may have it";
    counted.textContent = !wanted ? "" : found ? found + " of " + lines.length + " shown" : none;
  });
})();
