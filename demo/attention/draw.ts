import { interpolateCividis, interpolateGreys, interpolateViridis } from "d3-scale-chromatic";
import type { AttentionMaps } from "./maps.ts";

/** Palettes that people with any kind of colour vision can read. */
export const PALETTES = { cividis: interpolateCividis, viridis: interpolateViridis, greys: interpolateGreys } as const;
export type PaletteName = keyof typeof PALETTES;

const STEPS = 256;
const tables = new Map<PaletteName, Uint8ClampedArray>();

/** RGBA of 256 steps from weight 0 to weight 1. */
function tableOf(name: PaletteName): Uint8ClampedArray {
  let table = tables.get(name);
  if (!table) {
    table = new Uint8ClampedArray(STEPS * 4);
    for (let i = 0; i < STEPS; i++) table.set([...rgbOf(PALETTES[name](i / (STEPS - 1))), 255], i * 4);
    tables.set(name, table);
  }
  return table;
}

/** d3 writes its colours as `#rrggbb` or as `rgb(r, g, b)`. */
function rgbOf(colour: string): number[] {
  const hex = /^#(..)(..)(..)$/.exec(colour);
  if (hex) return hex.slice(1).map((part) => Number.parseInt(part, 16));
  return (colour.match(/[\d.]+/g) ?? []).slice(0, 3).map(Number);
}

/** The colour of a weight; the square root lifts small weights out of the dark. */
export function colourOf(palette: PaletteName, weight: number): [number, number, number] {
  const table = tableOf(palette);
  const at = Math.round(Math.sqrt(Math.min(1, Math.max(0, weight))) * (STEPS - 1)) * 4;
  return [table[at] ?? 0, table[at + 1] ?? 0, table[at + 2] ?? 0];
}

/** One pixel a pair of tokens: queries down, keys across. What the mask hides, or is not known yet, is left clear. */
export function headImage(maps: AttentionMaps, layer: number, head: number, palette: PaletteName): ImageData {
  const width = Math.max(1, maps.keyTokens.length);
  const height = Math.max(1, maps.queryTokens.length);
  const image = new ImageData(width, height);
  for (let query = 0; query < height; query++) {
    const row = maps.row(layer, head, query);
    if (!row) continue;
    for (let key = 0; key < Math.min(width, row.length); key++) {
      if (!maps.visible(query, key)) continue;
      image.data.set([...colourOf(palette, row[key] ?? 0), 255], (query * width + key) * 4);
    }
  }
  return image;
}

/** Draws a head's map to fill a canvas, sharp at the screen's own pixels. */
export function drawSmall(
  canvas: HTMLCanvasElement,
  maps: AttentionMaps,
  head: { layer: number; head: number; palette: PaletteName },
): void {
  const image = headImage(maps, head.layer, head.head, head.palette);
  canvas.width = image.width;
  canvas.height = image.height;
  canvas.getContext("2d")?.putImageData(image, 0, 0);
}

/** Where the cells of a large map are on its canvas, in CSS pixels. */
export interface MapLayout {
  readonly left: number;
  readonly top: number;
  readonly cellWidth: number;
  readonly cellHeight: number;
  readonly width: number;
  readonly height: number;
}

const LABEL_FONT = "12px ui-monospace, Menlo, Consolas, monospace";
const MAX_LABEL = 96;
const MIN_LABELLED_CELL = 11;
/** Rows that carry their token are at least this tall. */
const MIN_ROW = 14;
/** A map of a short text is not taller than a screen. */
const TALLEST = 560;

/** Room for the labels, and cells within a width: square, unless one side alone has few enough tokens to name them. */
export function layoutOf(maps: AttentionMaps, width: number): MapLayout {
  const keys = Math.max(1, maps.keyTokens.length);
  const queries = Math.max(1, maps.queryTokens.length);
  const label = Math.min(MAX_LABEL, Math.max(40, width * 0.16));
  const cell = Math.max(1, Math.min(28, (width - label) / keys, Math.max(MIN_LABELLED_CELL, TALLEST / queries)));
  const labelled = cell >= MIN_LABELLED_CELL;
  const rowsLabelled = labelled || queries * MIN_ROW <= TALLEST;
  const left = rowsLabelled ? label : 24;
  const top = labelled ? label * 0.9 : 24;
  const cellWidth = labelled ? cell : Math.min(28, (width - left) / keys);
  const cellHeight = rowsLabelled && !labelled ? MIN_ROW : cellWidth;
  return {
    ...{ left, top, cellWidth, cellHeight },
    width: left + keys * cellWidth,
    height: top + queries * cellHeight,
  };
}

/** What a large map is drawn with. */
export interface MapStyle {
  readonly palette: PaletteName;
  readonly ink: string;
  readonly line: string;
  readonly accent: string;
  readonly selected: { readonly query: number; readonly key: number } | undefined;
}

/** Draws one head large: cells, what the mask hides hatched, tokens along both sides where they fit. */
export function drawLarge(
  canvas: HTMLCanvasElement,
  maps: AttentionMaps,
  head: { readonly layer: number; readonly head: number },
  layout: MapLayout,
  style: MapStyle,
): void {
  const ratio = globalThis.devicePixelRatio || 1;
  canvas.width = Math.ceil(layout.width * ratio);
  canvas.height = Math.ceil(layout.height * ratio);
  canvas.style.width = `${layout.width}px`;
  canvas.style.height = `${layout.height}px`;
  const context = canvas.getContext("2d");
  if (!context) return;
  context.scale(ratio, ratio);
  hatch(context, layout, style.line);
  const image = headImage(maps, head.layer, head.head, style.palette);
  const scratch = new OffscreenCanvas(image.width, image.height);
  scratch.getContext("2d")?.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  clearVisible(context, maps, layout);
  context.drawImage(scratch, layout.left, layout.top, layout.width - layout.left, layout.height - layout.top);
  drawLabels(context, maps, layout, style);
  drawSelection(context, layout, style);
}

/** The ground of the map: thin diagonals, which stay where the mask hides a key. */
function hatch(context: CanvasRenderingContext2D, { left, top, width, height }: MapLayout, colour: string): void {
  context.save();
  context.beginPath();
  context.rect(left, top, width - left, height - top);
  context.clip();
  context.strokeStyle = colour;
  context.lineWidth = 1;
  for (let x = left - (height - top); x < width; x += 6) {
    context.beginPath();
    context.moveTo(x, height);
    context.lineTo(x + (height - top), top);
    context.stroke();
  }
  context.restore();
}

/** Pairs that the mask allows have no hatching, known or not. */
function clearVisible(context: CanvasRenderingContext2D, maps: AttentionMaps, layout: MapLayout): void {
  maps.queryTokens.forEach((_, query) => {
    const keys = maps.visibleKeys(query);
    const y = layout.top + query * layout.cellHeight;
    context.clearRect(layout.left, y, keys * layout.cellWidth, layout.cellHeight);
  });
}

function drawLabels(context: CanvasRenderingContext2D, maps: AttentionMaps, layout: MapLayout, style: MapStyle): void {
  context.fillStyle = style.ink;
  context.font = LABEL_FONT;
  context.textBaseline = "middle";
  drawRowLabels(context, maps, layout);
  drawColumnLabels(context, maps, layout);
}

function drawRowLabels(context: CanvasRenderingContext2D, maps: AttentionMaps, layout: MapLayout): void {
  if (layout.cellHeight < MIN_LABELLED_CELL) {
    context.save();
    context.textAlign = "left";
    context.translate(12, layout.top);
    context.rotate(Math.PI / 2);
    context.fillText("queries →", 0, 0);
    context.restore();
    return;
  }
  context.textAlign = "right";
  maps.queryTokens.forEach(({ text }, query) => {
    const y = layout.top + (query + 0.5) * layout.cellHeight;
    context.fillText(shown(text), layout.left - 6, y, layout.left - 8);
  });
}

function drawColumnLabels(context: CanvasRenderingContext2D, maps: AttentionMaps, layout: MapLayout): void {
  context.textAlign = "left";
  if (layout.cellWidth < MIN_LABELLED_CELL) {
    // Of a source, such as a sound, it is worth saying where it begins and ends.
    const [first, last] = [maps.keyTokens[0], maps.keyTokens.at(-1)];
    const ends = maps.keyTokens === maps.queryTokens ? "" : ` ${first?.text ?? ""} … ${last?.text ?? ""}`;
    context.fillText(`keys →${ends}`, layout.left, 12, layout.width - layout.left);
    return;
  }
  maps.keyTokens.forEach(({ text }, key) => {
    context.save();
    context.translate(layout.left + (key + 0.5) * layout.cellWidth, layout.top - 6);
    context.rotate(-Math.PI / 2);
    context.fillText(shown(text), 0, 0, layout.top - 8);
    context.restore();
  });
}

function drawSelection(context: CanvasRenderingContext2D, layout: MapLayout, { selected, accent }: MapStyle): void {
  if (!selected) return;
  context.strokeStyle = accent;
  context.lineWidth = 2;
  const y = layout.top + selected.query * layout.cellHeight;
  context.strokeRect(layout.left, y, layout.width - layout.left, layout.cellHeight);
  const x = layout.left + selected.key * layout.cellWidth;
  context.strokeRect(x, y, layout.cellWidth, layout.cellHeight);
}

/** A token's text with its blanks made visible. */
export function shown(text: string): string {
  return text.replace(/ /g, "␣").replace(/\n/g, "↵").replace(/\t/g, "⇥");
}
