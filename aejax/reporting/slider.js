(() => {
  const data = JSON.parse(document.getElementById("choose-data").textContent);
  const byId = (name) => document.getElementById("choose-" + name);
  const slider = byId("slider"), daily = byId("daily-rows");
  const percent = (part, all) => all ? (100 * part / all).toFixed(1) + " %" : "\u2013";
  const put = (name, text) => { const place = byId(name); if (place) place.textContent = text; };
  slider.max = data.stops.length - 1;
  slider.value = data.start;
  const show = () => {
    const at = Number(slider.value), threshold = data.stops[at];
    const falsely = data.normal[at], found = data.labelled ? data.anomalous[at] : 0;
    const flagged = falsely + found;
    put("threshold", threshold.toPrecision(6));
    put("flagged", flagged.toLocaleString("en"));
    put("found", found.toLocaleString("en"));
    put("missed", ((data.totals.anomalous || 0) - found).toLocaleString("en"));
    put("false", falsely.toLocaleString("en"));
    put("precision", percent(found, flagged));
    put("recall", percent(found, data.totals.anomalous));
    const alarms = Number(daily.value) * falsely / Math.max(data.totals.normal, 1);
    put("daily", alarms < 10 ? alarms.toFixed(1) : Math.round(alarms).toLocaleString("en"));
    if (data.command) put("command", data.command + threshold);
    else if (byId("keep")) byId("keep").hidden = true;
    const table = document.createElement("table");
    table.className = "reasons";
    const head = table.createTHead().insertRow();
    const keys = data.rows.some((row) => row.key);
    const labels = data.labelled ? ["Label"] : [];
    const names = ["Row", ...(keys ? ["Key"] : []), "Score", ...labels, "Reasons"];
    for (const name of names) {
      const cell = document.createElement("th");
      cell.textContent = name;
      cell.scope = "col";
      head.append(cell);
    }
    const body = table.createTBody();
    for (const row of data.rows.filter((row) => row.score > threshold)) {
      const line = body.insertRow();
      line.insertCell().textContent = row.row;
      if (keys) line.insertCell().textContent = row.key;
      line.insertCell().textContent = row.score.toPrecision(5);
      if (data.labelled) line.insertCell().textContent = row.label ? "anomaly" : "normal";
      line.insertCell().textContent = row.reason;
    }
    const caption = table.createCaption();
    caption.textContent = body.rows.length
      ? "Flagged rows, the most anomalous first" + (flagged > body.rows.length
        ? ": " + body.rows.length + " of " + flagged.toLocaleString("en") : "")
      : "No row is flagged";
    const scroll = document.createElement("div");
    scroll.className = "scroll";
    scroll.append(table);
    byId("rows").replaceChildren(scroll);
  };
  slider.addEventListener("input", show);
  daily.addEventListener("input", show);
  show();
})();
