"use strict";
{
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const touch = matchMedia("(pointer: coarse)").matches;
  const places = [];
  for (const [name, figure] of Object.entries(figures)) {
    const place = document.getElementById(`plot-${name}`);
    figure.layout.dragmode = touch ? false : "zoom"; // a finger scrolls the page
    Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displayModeBar: false });
    places.push(place);
  }

  // Paper is narrower than the window: plots take the width that they have there.
  const print = matchMedia("print");
  const fit = () => places.forEach((place) => Plotly.Plots.resize(place));
  print.addEventListener("change", fit);
  addEventListener("beforeprint", fit);
  addEventListener("afterprint", fit);

  const table = document.getElementById("decision-table");
  if (table) {
    const text = document.getElementById("filter-text");
    const source = document.getElementById("filter-source");
    const count = document.getElementById("filter-count");
    const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
    const filter = () => {
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, content] of rows) {
        const fits = words.every((word) => content.includes(word)) && (!source.value || row.dataset.source === source.value);
        row.hidden = !fits;
        shown += fits;
      }
      count.textContent = `${shown} of ${rows.length}`;
    };
    text.addEventListener("input", filter);
    source.addEventListener("input", filter);
    text.form.addEventListener("submit", (event) => event.preventDefault());
  }
}
