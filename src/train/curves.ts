/** A point of the curves: the loss after so many steps. */
export interface CurvePoint {
  readonly step: number;
  readonly loss: number;
}

const [WIDTH, HEIGHT] = [720, 400];
const MARGIN = { left: 56, right: 16, top: 40, bottom: 44 };
const MOST_POINTS = 600;

/** An SVG of training and validation loss over the steps, with axes and a title; as text. */
export function curvesSvg(
  title: string,
  curves: { readonly training: readonly CurvePoint[]; readonly validation: readonly CurvePoint[] },
): string {
  const isDrawn = ({ loss }: CurvePoint): boolean => Number.isFinite(loss);
  const training = averaged(curves.training.filter(isDrawn));
  const validation = averaged(curves.validation.filter(isDrawn));
  const all = [...training, ...validation];
  const lastStep = Math.max(1, ...all.map(({ step }) => step));
  const losses = all.map(({ loss }) => loss);
  const [low, high] = all.length > 0 ? [Math.min(...losses), Math.max(...losses)] : [0, 1];
  const gap = tickGap(high - low || 1);
  const [bottom, top] = [Math.floor(low / gap) * gap, Math.max(Math.ceil(high / gap) * gap, low + gap)];
  const x = (step: number) => MARGIN.left + ((WIDTH - MARGIN.left - MARGIN.right) * step) / lastStep;
  const y = (loss: number) =>
    HEIGHT - MARGIN.bottom - ((HEIGHT - MARGIN.top - MARGIN.bottom) * (loss - bottom)) / (top - bottom);
  const line = (points: readonly CurvePoint[], color: string) =>
    `<polyline fill="none" stroke="${color}" stroke-width="1.5" points="${points.map((p) => `${round(x(p.step))},${round(y(p.loss))}`).join(" ")}"/>`;
  const text = (at: readonly [number, number], anchor: string, content: string) =>
    `<text x="${round(at[0])}" y="${round(at[1])}" text-anchor="${anchor}">${escaped(content)}</text>`;
  const rows: string[] = [];
  for (let loss = bottom; loss <= top + gap / 2; loss += gap) {
    rows.push(
      `<path d="M${MARGIN.left} ${round(y(loss))}H${WIDTH - MARGIN.right}" stroke="#ddd"/>`,
      text([MARGIN.left - 6, y(loss) + 4], "end", tickLabel(loss, gap)),
    );
  }
  const stepGap = Math.max(1, tickGap(lastStep));
  for (let step = 0; step <= lastStep; step += stepGap) rows.push(text([x(step), HEIGHT - 22], "middle", String(step)));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text([MARGIN.left, 20], "start", title),
    `<text x="${WIDTH - MARGIN.right}" y="20" text-anchor="end"><tspan fill="#4269d0">training</tspan> · <tspan fill="#d1495b">validation</tspan></text>`,
    ...rows,
    text([(WIDTH + MARGIN.left) / 2, HEIGHT - 6], "middle", "steps"),
    line(training, "#4269d0"),
    line(validation, "#d1495b"),
    ...validation.map((p) => `<circle cx="${round(x(p.step))}" cy="${round(y(p.loss))}" r="2" fill="#d1495b"/>`),
    "</svg>",
    "",
  ].join("\n");
}

/** Means of neighbours, so that a long run's curve stays small and readable. */
function averaged(points: readonly CurvePoint[]): CurvePoint[] {
  const size = Math.max(1, Math.ceil(points.length / MOST_POINTS));
  return Array.from({ length: Math.ceil(points.length / size) }, (_, i) => {
    const group = points.slice(i * size, (i + 1) * size);
    const loss = group.reduce((sum, p) => sum + p.loss, 0) / group.length;
    return { step: group.at(-1)?.step ?? 0, loss };
  });
}

/** 1, 2 or 5 times a power of ten, so that about six of them make `span`. */
function tickGap(span: number): number {
  const power = 10 ** Math.floor(Math.log10(span / 6));
  const factor = [1, 2, 5, 10].find((f) => span / (f * power) <= 7) ?? 10;
  return factor * power;
}

/** With the decimals that tell one tick from the next. */
function tickLabel(value: number, gap: number): string {
  const decimals = Math.min(20, Math.max(0, -Math.floor(Math.log10(gap))));
  return String(Number(value.toFixed(decimals)));
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function escaped(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}
