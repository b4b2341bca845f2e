// How many objects there are over time, and how sure the detector was.

import uPlot from "./vendor/uPlot.esm.js";
import { clock, make, number } from "./dom.js";

/** @import {Change, Density, FrameRecord, View} from "./types.js" */
/** @import {Colours} from "./colours.js" */

const MOST_LINES = 6;
const OVER_TIME_PX = 150;
const HISTOGRAM_PX = 120;
const CLICK_PX = 4;

/**
 * The columns of the plot over time: the middle number of objects of each class in a frame. A stretch of time without
 * an analysed frame has no point.
 * @param {Density} density
 * @param {string[]} names of classes
 * @returns {[number[], ...(number | null)[][]]}
 */
export function overTime(density, names) {
  const { bucket_s: step, frames } = density;
  const places = frames.flatMap((n, place) => (n ? [place] : []));
  const columns = names.map((name) => places.map((place) => round(density.objects[name][place] / frames[place])));
  const last = places.length ? [round((places[places.length - 1] + 1) * step)] : [];
  return [[...places.map((place) => round(place * step)), ...last], ...columns.map((column) => [...column, ...column.slice(-1)])];
}

/** @param {number} n */
const round = (n) => Math.round(n * 1e6) / 1e6;

/**
 * The detections of the classes that are shown, in steps of confidence.
 * @param {Density} density
 * @param {Set<string>} classes empty: all
 * @returns {number[]}
 */
export function histogram(density, classes) {
  const all = Object.entries(density.classes ?? {}).filter(([name]) => !classes.size || classes.has(name));
  const steps = all.length ? all[0][1].confidences.length : 0;
  return Array.from({ length: steps }, (_, n) => all.reduce((sum, [, one]) => sum + one.confidences[n], 0));
}

export class Plots {
  /**
   * @param {Colours} colours
   * @param {(time: number) => void} seek
   * @param {Change} change
   */
  constructor(colours, seek, change) {
    this.colours = colours;
    this.seek = seek;
    this.change = change;
    /** @type {uPlot | null} */
    this.chart = null;
    /** @type {uPlot | null} */
    this.bars = null;
    /** @type {Density | null} */
    this.density = null;
    /** @type {View | null} */
    this.view = null;
    /** @type {string[]} */
    this.names = [];
    this.duration = 0;
    this.time = 0;
    /** @type {FrameRecord | null} */
    this.frame = null;
    this.hovered = false;
    this.head = make("div", { class: "head" });
    this.legend = make("p", { class: "legend small" });
    this.whole = make("button", { class: "quiet small", hidden: true, title: "The whole video (Z)", onclick: () => change({ span: null }) }, "Whole video");
    this.zooms = make("span", { class: "zooms" },
      make("button", { class: "quiet", "aria-label": "Zoom out", title: "Show more time", onclick: () => this.zoom(2) }, "−"),
      make("button", { class: "quiet", "aria-label": "Zoom in", title: "Show less time, around the play head", onclick: () => this.zoom(0.5) }, "+"));
    this.place = make("div", { class: "plot" });
    this.element = make("figure", { class: "over-time", hidden: true }, make("figcaption", { class: "small" }, make("strong", {}, "Objects in a frame"), this.legend, this.whole, this.zooms), this.place);
    this.histogramPlace = make("div", { class: "plot" });
    this.histogram = make("figure", { class: "histogram", hidden: true }, make("figcaption", { class: "small" }, make("strong", {}, "Confidence of detections")), this.histogramPlace);
    this.resized = new ResizeObserver(() => this.resize());
    this.resized.observe(this.place);
    this.resized.observe(this.histogramPlace);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => { this.chart?.redraw(); this.bars?.redraw(); };
    this.dark.addEventListener("change", this.redraw);
  }

  /**
   * @param {Density} density
   * @param {string[]} names of classes, the most frequent first
   */
  begin(density, names) {
    this.density = density;
    this.names = names.slice(0, MOST_LINES);
    if (!names.length) return;
    this.element.hidden = this.histogram.hidden = false;
    this.chart = new uPlot(this.options(), overTime(density, this.names), this.place);
    this.chart.over.append(this.head);
    this.drawHistogram();
    if (this.view) this.apply(this.view);
    this.moved(this.time);
  }

  /** @returns {uPlot.Options} */
  options() {
    return {
      width: this.place.clientWidth || 600, height: OVER_TIME_PX, legend: { show: false }, padding: [8, 0, 0, 0],
      scales: { x: { time: false, range: () => this.range() }, y: { range: (_, __, most) => [0, Math.max(1, Math.ceil(most))] } },
      series: [{}, ...this.names.map((name) => ({ label: name, stroke: this.colours.of(name), width: 1.5, points: { show: false }, paths: uPlot.paths.stepped?.({ align: 1 }) }))],
      axes: [
        { ...this.axis(), values: (_, times) => times.map((time) => (this.isNearEnd(time) ? "" : clock(time, this.digits(times)))), size: 26 },
        { ...this.axis(), size: () => this.labelWidth(), values: (_, all) => all.map((n) => (Number.isInteger(n) ? String(n) : "")) },
      ],
      cursor: { x: true, y: false, points: { size: 6 }, drag: { x: true, y: false, setScale: false, dist: CLICK_PX } },
      hooks: {
        setSelect: [(chart) => this.selected(chart)],
        setCursor: [(chart) => this.say(chart.cursor.idx ?? null)],
        ready: [(chart) => this.listen(chart)],
      },
    };
  }

  axis() {
    const colour = (/** @type {string} */ name) => () => getComputedStyle(this.element).getPropertyValue(name);
    return { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1, size: 4 }, font: "12px system-ui, sans-serif", gap: 4 };
  }

  /** The axis is as wide as the names beside the lanes, so that both have the same time above each other. */
  labelWidth() {
    return parseFloat(getComputedStyle(this.element).getPropertyValue("--names")) || 120;
  }

  /** Whether there is no room for a time's label. @param {number} time */
  isNearEnd(time) {
    const [from, to] = this.range();
    return (to - time) / (to - from) * (this.place.clientWidth - this.labelWidth()) < 24;
  }

  /** @param {number[]} times */
  digits(times) {
    const step = times.length > 1 ? times[1] - times[0] : 1;
    return step >= 1 ? 0 : step >= 0.1 ? 1 : 2;
  }

  /** @returns {[number, number]} */
  range() {
    return this.view?.span ?? [0, this.duration || 1];
  }

  /** @param {uPlot} chart */
  listen(chart) {
    let began = 0;
    chart.over.addEventListener("pointerdown", (event) => { began = event.clientX; });
    chart.over.addEventListener("click", (event) => {
      if (Math.abs(event.clientX - began) <= CLICK_PX) this.seek(chart.posToVal(event.clientX - chart.over.getBoundingClientRect().left, "x"));
    });
    chart.over.addEventListener("dblclick", () => this.change({ span: null }));
  }

  /** @param {uPlot} chart */
  selected(chart) {
    const { left, width } = chart.select;
    if (width <= CLICK_PX) return;
    const [from, to] = [chart.posToVal(left, "x"), chart.posToVal(left + width, "x")];
    chart.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.change({ span: [Math.max(0, from), to] });
  }

  /**
   * Show more or less of the time around the play head, in lanes and plots.
   * @param {number} factor by which it is more
   */
  zoom(factor) {
    const [from, to] = this.range();
    const wide = Math.max(0.2, (to - from) * factor);
    const begin = Math.max(0, Math.min(this.time - wide / 2, this.duration - wide));
    this.change({ span: wide < this.duration ? [begin, begin + wide] : null });
  }

  /** @param {View} view */
  apply(view) {
    this.view = view;
    this.whole.hidden = view.span === null;
    if (!this.chart) return;
    const chart = this.chart;
    this.names.forEach((name, n) => {
      const show = !view.classes.size || view.classes.has(name);
      if (chart.series[n + 1].show !== show) chart.setSeries(n + 1, { show });
    });
    this.chart.redraw(true, true);
    this.chart.setScale("x", { min: this.range()[0], max: this.range()[1] });
    this.drawHistogram();
    this.moved(this.time);
  }

  /** @param {number} duration in seconds */
  size(duration) {
    this.duration = duration;
    if (this.view) this.apply(this.view);
  }

  /**
   * @param {number} time
   * @param {FrameRecord | null} [frame] what was found in the picture that is shown
   */
  moved(time, frame = this.frame) {
    this.time = time;
    this.frame = frame;
    if (!this.chart) return;
    const [from, to] = this.range();
    this.head.hidden = time < from || time > to;
    this.head.style.left = `${(100 * (time - from)) / (to - from)}%`;
    if (this.chart.cursor.idx === null || (this.chart.cursor.left ?? -1) < 0) this.say(null);
  }

  /**
   * Say how many there are: in the mean where the pointer is, or else in the picture that is shown.
   * @param {number | null} place
   */
  say(place) {
    if (!this.chart) return;
    const [times, ...columns] = /** @type {number[][]} */ (this.chart.data);
    const names = this.names.filter((name) => !this.view?.classes.size || this.view.classes.has(name));
    const entries = names.map((name) => /** @type {const} */ ([name, place === null ? this.shown(name) : columns[this.names.indexOf(name)][place]]));
    this.legend.replaceChildren(
      make("span", { class: "soft" }, place === null ? clock(this.time) : `${clock(times[place] ?? 0)}, mean`),
      ...entries.map(([name, n]) => {
        const swatch = make("span", { class: "swatch" });
        swatch.style.background = this.colours.of(name);
        return make("span", {}, swatch, ` ${name} `, make("strong", {}, n === undefined || n === null ? "–" : String(Math.round(n * 10) / 10)));
      }));
  }

  /** How many of a class are in the picture that is shown; null where nothing is known of it. @param {string} name */
  shown(name) {
    return this.frame && this.frame.result.detections.filter((one) => one.class === name).length;
  }

  drawHistogram() {
    if (!this.density) return;
    const counts = histogram(this.density, this.view?.classes ?? new Set());
    if (!counts.length) return void (this.histogram.hidden = true);
    const steps = counts.map((_, n) => (n + 0.5) / counts.length);
    const least = this.view?.confidence ?? 0;
    /** @type {[number[], ...number[][]]} */
    const data = [steps, counts.map((n, place) => (steps[place] >= least ? n : 0)), counts.map((n, place) => (steps[place] < least ? n : 0))];
    if (this.bars) this.bars.setData(data);
    else if (this.histogramPlace.clientWidth) this.bars = new uPlot(this.histogramOptions(), data, this.histogramPlace);
    this.histogramPlace.setAttribute("role", "img");
    this.histogramPlace.setAttribute("aria-label", `Of ${number(counts.reduce((a, b) => a + b, 0))} detections, ${number(data[1].reduce((a, b) => a + b, 0))} have a confidence of at least ${least.toFixed(2)}`);
  }

  /** @returns {uPlot.Options} */
  histogramOptions() {
    const series = (/** @type {string} */ colour) => ({ stroke: colour, fill: colour, width: 0, points: { show: false }, paths: uPlot.paths.bars?.({ size: [0.9], align: 0 }) });
    return {
      width: this.histogramPlace.clientWidth, height: HISTOGRAM_PX, legend: { show: false }, padding: [6, 8, 0, 0],
      scales: { x: { time: false, range: [0, 1] }, y: { range: (_, __, most) => [0, Math.max(1, most)] } },
      series: [{}, series("#5b9bff"), series("rgb(128 140 155 / 45%)")],
      axes: [{ ...this.axis(), size: 24 }, { ...this.axis(), size: 44, values: (_, all) => all.map((n) => (n >= 10000 ? `${n / 1000}k` : String(n))) }],
      cursor: { show: false },
    };
  }

  resize() {
    if (this.chart && this.place.clientWidth) this.chart.setSize({ width: this.place.clientWidth, height: OVER_TIME_PX });
    if (!this.bars) this.drawHistogram();
    else if (this.histogramPlace.clientWidth) this.bars.setSize({ width: this.histogramPlace.clientWidth, height: HISTOGRAM_PX });
    this.moved(this.time);
  }

  close() {
    this.resized.disconnect();
    this.dark.removeEventListener("change", this.redraw);
    this.chart?.destroy();
    this.bars?.destroy();
  }
}
