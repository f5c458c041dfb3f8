"use strict";
(() => {
  const { plots, said } = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const canvases = () => document.querySelectorAll(".canvas");

  // --- colours: the style says them, plots are drawn again when it changes ---
  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => { try { return localStorage.getItem("unet-nas-theme"); } catch { return null; } };
  const setTheme = (name) => { root.dataset.theme = name; };
  setTheme(stored() || (preferred.matches ? "dark" : "light"));

  const colored = (value, style) => {
    if (typeof value === "string" && value.startsWith("var(--"))
      return style.getPropertyValue(value.slice(4, -1)).trim();
    if (Array.isArray(value))
      return value.length && typeof value[0] === "object" ? value.map((v) => colored(v, style)) : value;
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, colored(v, style)]));
    return value;
  };

  const axis = (own, style) => ({
    gridcolor: style.getPropertyValue("--grid").trim(),
    linecolor: style.getPropertyValue("--line").trim(),
    zeroline: false, automargin: true, ...own,
    title: { standoff: 10, font: { size: 13 }, ...own.title },
  });

  // plotly is most of the page and takes a second to start: text and tables do not wait for it
  function start() {
    if (window.Plotly) return;
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  }

  function draw(canvas) {
    start();
    const plot = plots[canvas.dataset.plot];
    const style = getComputedStyle(root);
    const { data, layout } = colored(plot, style);
    for (const trace of data) {
      if (trace.customdata && !trace.text) trace.text = trace.customdata.map((key) => said[key] || "");
      if (trace.fill === "tonexty") trace.fillcolor = translucent(trace.line.color);
    }
    const ink = style.getPropertyValue("--ink").trim();
    const paper = style.getPropertyValue("--card").trim();
    const narrow = canvas.clientWidth < 420;
    // only the front has a mode bar; it lies in a margin of its own, and the legend below the axis
    const tools = !narrow && canvas.closest(".tall") !== null;
    // a narrow plot has its legend in one column, which must not eat the plot
    const entries = layout.showlegend && narrow ? data.filter((trace) => trace.showlegend).length : 0;
    const base = layout.height || (canvas.closest(".tall") ? 380 : 320);
    canvas.style.height = layout.height || entries ? `${base + 18 * entries}px` : "";
    const options = {
      ...layout, height: undefined, autosize: true, paper_bgcolor: paper, plot_bgcolor: paper,
      font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: 12 },
      margin: { l: narrow ? 46 : 58, r: 14, t: tools ? 36 : 12, b: 46 }, hovermode: "closest",
      legend: {
        orientation: "h", x: 0, font: { size: 11.5 },
        ...(tools ? { yref: "container", y: 0, yanchor: "bottom" } : { y: 1.02, yanchor: "bottom" }),
      },
      hoverlabel: { bgcolor: paper, font: { color: ink, size: 12 }, align: "left" },
      xaxis: axis(layout.xaxis, style), yaxis: axis(layout.yaxis, style),
    };
    Plotly.react(canvas, data, options, { responsive: true, displaylogo: false, displayModeBar: tools ? "hover" : false });
    canvas.dataset.drawn = canvas.dataset.plot;
    canvas.removeAllListeners("plotly_click");
    canvas.on("plotly_click", (event) => pick(event.points[0].customdata, event.points[0].text));
  }

  const translucent = (color) => /^#[0-9a-f]{6}$/i.test(color) ? `${color}38` : color;

  // --- plots are drawn when they come into view, and all of them for paper ---
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting && !entry.target.dataset.drawn) draw(entry.target);
  }, { rootMargin: "300px" });
  addEventListener("load", () => setTimeout(() => {
    start();
    const first = document.querySelector("#pareto-panel .canvas");
    if (first && !first.dataset.drawn) draw(first);
    canvases().forEach((canvas) => watcher.observe(canvas));
  }, 50));
  const drawAgain = () => canvases().forEach((canvas) => { if (canvas.dataset.drawn) draw(canvas); });

  document.getElementById("theme").addEventListener("click", () => {
    const next = root.dataset.theme === "dark" ? "light" : "dark";
    setTheme(next);
    try { localStorage.setItem("unet-nas-theme", next); } catch { /* a page from a file may not keep it */ }
    drawAgain();
  });
  preferred.addEventListener("change", (event) => {
    if (!stored()) { setTheme(event.matches ? "dark" : "light"); drawAgain(); }
  });

  let before = null;
  addEventListener("beforeprint", () => {
    if (before) return; // some browsers say it twice
    before = { theme: root.dataset.theme, closed: [...document.querySelectorAll("details:not([open])")] };
    setTheme("light");
    root.classList.add("printing");
    before.closed.forEach((element) => { element.open = true; });
    canvases().forEach(draw);
  });
  addEventListener("afterprint", () => {
    if (!before) return;
    setTheme(before.theme);
    root.classList.remove("printing");
    before.closed.forEach((element) => { element.open = false; });
    before = null;
    drawAgain();
  });

  // --- a point opens its card; a network without one is told about below the plot ---
  function pick(key, text) {
    if (!key) return;
    const card = document.getElementById(`card-${key}`);
    if (card) {
      location.hash = card.id;
      open();
      return;
    }
    const line = document.getElementById("picked");
    const holder = document.createElement("div");
    holder.innerHTML = (text || said[key] || "").replaceAll("<br>", " · ");
    line.textContent = `${holder.textContent} (not on the front, so it has no card)`;
    document.querySelectorAll("tr.picked").forEach((row) => row.classList.remove("picked"));
    document.getElementById(`row-${key}`)?.classList.add("picked");
  }

  function open() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let element = target; element; element = element.parentElement)
      if (element.tagName === "DETAILS") element.open = true;
    target.scrollIntoView();
    if (target.tagName === "DETAILS") target.querySelector("summary").focus({ preventScroll: true });
  }
  addEventListener("hashchange", open);
  open();

  // --- tabs: arrows move between them ---
  const tabs = [...document.querySelectorAll("[role=tab]")];
  function show(tab) {
    tabs.forEach((other) => {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
    });
    const panel = document.getElementById("pareto-panel");
    panel.setAttribute("aria-labelledby", tab.id);
    const canvas = panel.querySelector(".canvas");
    canvas.dataset.plot = tab.dataset.shows;
    canvas.setAttribute("aria-label", tab.textContent);
    panel.querySelector("figcaption").textContent = tab.textContent;
    draw(canvas);
  }
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => show(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      next.focus();
      show(next);
    });
  });

  document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", async () => {
    const text = button.previousElementSibling.textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "copied"; }
    catch { getSelection().selectAllChildren(button.previousElementSibling); }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  }));
})();
