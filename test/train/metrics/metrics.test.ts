import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { bleu, type BleuTokenizer } from "../../../src/train/metrics/bleu.ts";
import { chrf } from "../../../src/train/metrics/chrf.ts";
import { type ClassScores, classificationReport } from "../../../src/train/metrics/classification.ts";
import { squadScores } from "../../../src/train/metrics/squad.ts";

interface SkScores {
  precision: number;
  recall: number;
  "f1-score": number;
  support: number;
}

interface Goldens {
  translation: {
    name: string;
    tokenize: BleuTokenizer;
    hypotheses: string[];
    references: string[][];
    bleu: number;
    precisions: number[];
    bp: number;
    lengths: [number, number];
    chrf: number;
  }[];
  classification: {
    predictions: string[];
    references: string[];
    accuracy: number;
    classes: Record<string, SkScores>;
    macro: SkScores;
    weighted: SkScores;
    micro: [number, number, number];
  }[];
  squad: { predictions: string[]; answers: string[][]; exact: number; f1: number };
}

const goldens = JSON.parse(readFileSync(new URL("../../fixtures/metrics.json", import.meta.url), "utf8")) as Goldens;

describe("bleu and chrf", () => {
  it.each(goldens.translation)("have the figures of sacreBLEU: $name", (golden) => {
    const result = bleu(golden.hypotheses, golden.references, { tokenize: golden.tokenize });
    expect([result.hypothesisLength, result.referenceLength]).toEqual(golden.lengths);
    expect(result.score).toBeCloseTo(golden.bleu, 8);
    expect(result.brevityPenalty).toBeCloseTo(golden.bp, 10);
    result.precisions.forEach((precision, n) => {
      expect(precision).toBeCloseTo(golden.precisions[n]!, 8);
    });
    expect(chrf(golden.hypotheses, golden.references)).toBeCloseTo(golden.chrf, 8);
  });

  it("count what is no space to Python as a word: a byte order mark, but no separator", () => {
    const text = "a b c d \ufeff";
    expect(bleu([text], [[text]], { tokenize: "zh" }).hypothesisLength).toBe(5);
    expect(bleu(["a b c d \u001c\u0085"], [["a b c d"]], { tokenize: "none" }).hypothesisLength).toBe(4);
  });

  it("refuse lists of different lengths", () => {
    expect(() => bleu(["a", "b"], [["a"]])).toThrow("BLEU: each list of references must be as long as the predictions");
    expect(() => chrf([], [[]])).toThrow("chrF:");
  });
});

describe("classificationReport", () => {
  const scores = ({ precision, recall, f1, support }: ClassScores) => [precision, recall, f1, support];
  const close = (actual: readonly number[], wanted: readonly number[]) =>
    actual.forEach((value, i) => {
      expect(value).toBeCloseTo(wanted[i]!, 10);
    });

  it.each(goldens.classification)("has the figures of scikit-learn, case %#", (golden) => {
    const report = classificationReport(golden.predictions, golden.references);
    expect(report.accuracy).toBeCloseTo(golden.accuracy, 12);
    const rows = (s: SkScores) => [s.precision, s.recall, s["f1-score"], s.support];
    for (const [name, sk] of Object.entries(golden.classes)) close(scores(report.classes.get(name)!), rows(sk));
    close(scores(report.macro), rows(golden.macro));
    close(scores(report.weighted), rows(golden.weighted));
    close(scores(report.micro).slice(0, 3), golden.micro);
  });

  it("orders numbered classes by number and counts a class that is never predicted as 0", () => {
    const report = classificationReport(["2", "2", "10"], ["2", "9", "10"]);
    expect([...report.classes.keys()]).toEqual(["2", "9", "10"]);
    expect(report.classes.get("9")).toEqual({ precision: 0, recall: 0, f1: 0, support: 1 });
  });
});

describe("squadScores", () => {
  it("has the figures of SQuAD's own arithmetic", () => {
    const { predictions, answers, exact, f1 } = goldens.squad;
    const result = squadScores(predictions, answers);
    expect(result.exactMatch).toBeCloseTo(exact, 10);
    expect(result.f1).toBeCloseTo(f1, 10);
  });

  it("counts a question without a prediction as wrong, whatever is right", () => {
    const scores = squadScores([undefined, undefined, "", "Ada"], [[], ["Ada"], [], ["Ada"]]);
    expect(scores).toEqual({ exactMatch: 50, f1: 50 });
  });
});
