// Splits a file in SQuAD's format by article: every sixth is held out, whole; of the others each question keeps the part of its text
// around the answer, so that a step of training costs a third. Usage: node split.mjs xquad.en.json FOLDER
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const HELD_OUT_EVERY = 6;
const WORDS = 52;

const [, , file, folder] = process.argv;
if (!file || !folder) {
  process.stderr.write("usage: node split.mjs SQUAD.json FOLDER\n");
  process.exit(2);
}

const { version, data } = JSON.parse(readFileSync(file, "utf8"));
const isHeld = (/** @type {unknown} */ _, /** @type {number} */ i) => i % HELD_OUT_EVERY === HELD_OUT_EVERY - 1;
const held = data.filter(isHeld);
const train = data.filter((/** @type {unknown} */ article, /** @type {number} */ i) => !isHeld(article, i));
mkdirSync(folder, { recursive: true });
write("train.json", train.map(cropped));
write("held.json", held);

/** @param {string} name @param {{ paragraphs: { qas: unknown[] }[] }[]} articles */
function write(name, articles) {
  writeFileSync(join(folder, name), JSON.stringify({ version, data: articles }));
  const questions = articles.flatMap(({ paragraphs }) => paragraphs.flatMap(({ qas }) => qas)).length;
  process.stdout.write(`${name}: ${articles.length} articles, ${questions} questions\n`);
}

/** An article whose questions each have a text of their own: about {@link WORDS} words, the answer anywhere among them. */
function cropped(/** @type {any} */ { title, paragraphs }) {
  const own = paragraphs.flatMap((/** @type {any} */ { context, qas }) =>
    qas.map((/** @type {any} */ question) => {
      const [{ text, answer_start: at }] = question.answers;
      const { from, to } = around(context, at, at + text.length, Number.parseInt(question.id.slice(-4), 16) / 65536);
      const answers = [{ text, answer_start: at - from }];
      return { context: context.slice(from, to), qas: [{ ...question, answers }] };
    }),
  );
  return { title, paragraphs: own };
}

/**
 * Where to cut: at words, with a share `place` of the words that the answer leaves room for before it.
 * @param {string} context @param {number} start @param {number} end @param {number} place
 */
function around(context, start, end, place) {
  const words = [...context.matchAll(/\S+/g)].map(({ index, 0: { length } }) => ({ from: index, to: index + length }));
  const first = words.findIndex(({ to }) => to > start);
  const last = words.findLastIndex(({ from }) => from < end);
  const room = Math.max(0, WORDS - (last - first + 1));
  const begin = Math.max(0, Math.min(first - Math.round(room * place), words.length - WORDS));
  const stop = Math.min(words.length - 1, Math.max(last, begin + WORDS - 1));
  return { from: words[begin]?.from ?? 0, to: words[stop]?.to ?? context.length };
}
