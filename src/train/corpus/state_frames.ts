import { drawSubject, type Sentence } from "./action_parts.ts";
import { otherThan } from "./actions.ts";
import { chineseCount, chineseNumber } from "./chinese.ts";
import type { Draw } from "./draw.ts";
import { be, does, has, numberInWords, plural, present, verb, was, withArticle } from "./english.ts";
import { NAMES, type Person, PROFESSIONS, PRONOUNS, RELATIONS } from "./people.ts";
import { CITIES, COUNTRIES, HOME, PLACES, SPOTS } from "./places.ts";
import { bare, counted, owned, pointed, type Phrase, qualitiesOf, type Thing, THINGS, thingsOf } from "./things.ts";

const MEASURES_OF_PEOPLE = ["名", "位", "个"];
const HAVE = verb("have", "had", "had");
const LIKE = verb("like");
const NEED = verb("need");
const WANT = verb("want");

/** 我是一名工程师: what somebody is. */
export function identitySentence(draw: Draw): Sentence {
  const roll = draw.uniform();
  if (roll < 0.7) return professionSentence(draw);
  const s = drawSubject(draw);
  if (roll < 0.82) {
    const country = draw.from(COUNTRIES);
    const key = `${s.en} is ${country.zh}人`;
    if (draw.chance(0.25))
      return ask(`${s.zh}是${country.zh}人吗`, `${be(s.agreement)} ${s.en} ${country.people}`, key);
    const not = draw.chance(0.25);
    return tell(
      `${s.zh}${not ? "不" : ""}是${country.zh}人`,
      `${s.en} ${be(s.agreement)}${not ? " not" : ""} ${country.people}`,
      key,
    );
  }
  if (roll < 0.92) {
    const from = draw.from([...CITIES, ...COUNTRIES]);
    const key = `${s.en} from ${from.zh}`;
    return tell(`${s.zh}来自${from.zh}`, `${s.en} ${be(s.agreement)} from ${from.en}`, key);
  }
  const owner = draw.from(PRONOUNS.slice(0, 6));
  const relation = draw.from(RELATIONS.slice(18));
  const who = draw.from(NAMES);
  return tell(
    `${who.zh}是${owner.zh}的${relation.zh}`,
    `${who.en} is ${owner.possessive} ${relation.en}`,
    `${who.en} is ${owner.en} ${relation.zh}`,
  );
}

const HAS_PROFESSION = /老师|医生|教授|律师|记者|学生|工人/;

function professionSentence(draw: Draw): Sentence {
  let s = drawSubject(draw);
  while (HAS_PROFESSION.test(s.zh)) s = drawSubject(draw);
  const { zh, en } = draw.from(PROFESSIONS);
  const key = `${s.en} is ${zh}`;
  const many = s.agreement === "plural" && (!["你", "您"].includes(s.zh) || s.zh.includes("和"));
  const measure = many || draw.chance(0.25) ? "" : `一${draw.from(MEASURES_OF_PEOPLE)}`;
  const noun = many ? plural(en) : withArticle(en);
  const roll = draw.uniform();
  if (roll < 0.5) {
    const all = many && draw.chance(0.4);
    return tell(
      `${s.zh}${all ? "都" : ""}是${measure}${zh}`,
      `${s.en} ${be(s.agreement)} ${all ? "all " : ""}${noun}`,
      key,
    );
  }
  if (roll < 0.65) return tell(`${s.zh}不是${zh}`, `${s.en} ${be(s.agreement)} not ${noun}`, key);
  if (roll < 0.82) return ask(`${s.zh}是${zh}吗`, `${be(s.agreement)} ${s.en} ${noun}`, key);
  if (roll < 0.91) {
    return tell(`${s.zh}想当${measure}${zh}`, `${s.en} ${present(WANT, s.agreement)} to be ${noun}`, key);
  }
  return tell(`${s.zh}以前是${measure}${zh}`, `${s.en} used to be ${noun}`, key);
}

function tell(zh: string, en: string, key?: string): Sentence {
  return { zh, en, end: ".", key };
}

function ask(zh: string, en: string, key?: string): Sentence {
  return { zh, en, end: "?", key };
}

/** What somebody has, lacks, needs and likes. */
export function havingSentence(draw: Draw): Sentence {
  const s = drawSubject(draw);
  const thing = draw.from(THINGS.filter(({ kind, zh }) => kind !== "meal" && zh !== "新闻"));
  const roll = draw.uniform();
  if (roll < 0.55) return possession(draw, s, thing);
  const key = `${s.en} likes ${thing.zh}`;
  const general =
    draw.chance(0.7) || thing.measure === "" ? bare(thing) : pointed(thing, draw.chance(0.6), draw.chance(0.3));
  const doIt = does(s.agreement);
  if (roll < 0.68) return tell(`${s.zh}喜欢${general.zh}`, `${s.en} ${present(LIKE, s.agreement)} ${general.en}`, key);
  if (roll < 0.76) return tell(`${s.zh}不喜欢${general.zh}`, `${s.en} ${doIt} not like ${general.en}`, key);
  if (roll < 0.84) return ask(`${s.zh}喜欢${general.zh}吗`, `${doIt} ${s.en} like ${general.en}`, key);
  if (roll < 0.92) {
    const wanted = thing.measure === "" ? bare(thing) : counted(thing, draw.chance(0.6) ? 1 : draw.integer(2, 5));
    return tell(`${s.zh}需要${wanted.zh}`, `${s.en} ${present(NEED, s.agreement)} ${wanted.en}`, key);
  }
  const other = draw.from(THINGS.filter(({ kind, zh }) => kind === thing.kind && zh !== thing.zh));
  const [a, b] = [bare(thing), bare(other)];
  const en = `${s.en} ${present(LIKE, s.agreement)} ${a.en} but ${doIt} not like ${b.en}`;
  return tell(`${s.zh}喜欢${a.zh}，但是不喜欢${b.zh}`, en, `${key} ${other.zh}`);
}

function possession(draw: Draw, s: Person, thing: Thing): Sentence {
  const key = `${s.en} has ${thing.zh}`;
  const doIt = does(s.agreement);
  const general = thing.isMass ? `any ${thing.en}` : withArticle(thing.en);
  const roll = draw.uniform();
  if (roll < 0.2) return tell(`${s.zh}没有${thing.zh}`, `${s.en} ${doIt} not have ${general}`, key);
  if (roll < 0.35) return ask(`${s.zh}有${thing.zh}吗`, `${doIt} ${s.en} have ${general}`, key);
  if (roll < 0.4) return ask(`${s.zh}有没有${thing.zh}`, `${doIt} ${s.en} have ${general}`, key);
  if (thing.measure === "")
    return tell(`${s.zh}有${thing.zh}`, `${s.en} ${present(HAVE, s.agreement)} ${thing.en}`, key);
  if (roll < 0.5) {
    const en = thing.unit ? `${plural(thing.unit)} of ${thing.en}` : plural(thing.en);
    return ask(`${s.zh}有几${thing.measure}${thing.zh}`, `how many ${en} ${doIt} ${s.en} have`, key);
  }
  const qualities = qualitiesOf(thing);
  const quality = qualities.length > 0 && draw.chance(0.35) ? draw.from(qualities) : undefined;
  const phrase = counted(thing, draw.chance(0.5) ? 1 : draw.integer(2, 12), quality);
  return tell(`${s.zh}有${phrase.zh}`, `${s.en} ${present(HAVE, s.agreement)} ${phrase.en}`, key);
}

/** 桌子上有一本书 and 书在桌子上: what is where. */
export function placeSentence(draw: Draw): Sentence {
  const roll = draw.uniform();
  if (roll < 0.3) return thereIs(draw);
  if (roll < 0.55) return whereIs(draw);
  if (roll < 0.75) return whereSomebodyIs(draw);
  const [a, b] = draw.shuffle([...PLACES]);
  if (!a || !b) return thereIs(draw);
  const key = `${a.zh}离${b.zh}`;
  if (roll < 0.81) return tell(`${a.zh}离${b.zh}很远`, `${a.en} is far from ${b.en}`, key);
  if (roll < 0.87) return tell(`${a.zh}离${b.zh}很近`, `${a.en} is close to ${b.en}`, key);
  if (roll < 0.91) return ask(`${a.zh}离${b.zh}远吗`, `is ${a.en} far from ${b.en}`, key);
  if (roll < 0.97) {
    const [zh, en] = draw.from([
      ["旁边", "next to"],
      ["对面", "across from"],
      ["后面", "behind"],
      ["前面", "in front of"],
    ] as const);
    return tell(`${a.zh}在${b.zh}${zh}`, `${a.en} is ${en} ${b.en}`, key);
  }
  return ask(`${a.zh}在哪儿`, `where is ${a.en}`);
}

/** Small enough to lie on a table. */
function smallThings(): readonly Thing[] {
  return thingsOf("food", "text", "thing", "clothes").filter(({ measure, zh }) => measure !== "" && zh !== "故事");
}

/** Food lies on tables and in kitchens, other things anywhere. */
function drawSpot(draw: Draw, thing: Thing): { readonly zh: string; readonly en: string } {
  const clean = /^(桌子上|冰箱里|厨房里|包里|盒子里)$/;
  return draw.from(thing.kind === "food" ? SPOTS.filter(({ zh }) => clean.test(zh)) : SPOTS);
}

function thereIs(draw: Draw): Sentence {
  const thing = draw.from(smallThings());
  const spot = drawSpot(draw, thing);
  const key = `${spot.zh}有${thing.zh}`;
  const roll = draw.uniform();
  const none = thing.isMass ? thing.en : plural(thing.en);
  const are = be(!thing.isMass || thing.isPlural ? "plural" : "third");
  if (roll < 0.15) return tell(`${spot.zh}没有${thing.zh}`, `there ${are} no ${none} ${spot.en}`, key);
  if (roll < 0.3) return ask(`${spot.zh}有${thing.zh}吗`, `${are} there any ${none} ${spot.en}`, key);
  const phrase = counted(thing, draw.chance(0.5) ? 1 : draw.integer(2, 10));
  return tell(
    `${spot.zh}有${phrase.zh}`,
    `there ${be(phrase.isPlural ? "plural" : "third")} ${phrase.en} ${spot.en}`,
    key,
  );
}

function whereIs(draw: Draw): Sentence {
  const thing = draw.from(smallThings());
  const spot = drawSpot(draw, thing);
  const phrase = definite(draw, thing);
  const is = be(phrase.isPlural ? "plural" : "third");
  const key = `${thing.zh}在${spot.zh}`;
  const roll = draw.uniform();
  if (roll < 0.12) return ask(`${phrase.zh}在哪儿`, `where ${is} ${phrase.en}`);
  if (roll < 0.25) return ask(`${phrase.zh}在${spot.zh}吗`, `${is} ${phrase.en} ${spot.en}`, key);
  if (roll < 0.4) return tell(`${phrase.zh}不在${spot.zh}`, `${phrase.en} ${is} not ${spot.en}`, key);
  return tell(`${phrase.zh}在${spot.zh}`, `${phrase.en} ${is} ${spot.en}`, key);
}

/** A certain thing: 这本书, 我的书. */
function definite(draw: Draw, thing: Thing): Phrase {
  if (draw.chance(0.5)) return owned(thing, draw.from([...PRONOUNS.slice(0, 7), ...NAMES.slice(0, 10)]));
  return pointed(thing, draw.chance(0.5), draw.chance(0.25));
}

function whereSomebodyIs(draw: Draw): Sentence {
  const s = drawSubject(draw);
  const place = draw.chance(0.3) ? HOME : draw.from([...PLACES, ...CITIES]);
  const is = be(s.agreement);
  const key = `${s.en} 在${place.zh}`;
  const roll = draw.uniform();
  if (roll < 0.15) return ask(`${s.zh}在哪儿`, `where ${is} ${s.en}`);
  if (roll < 0.3) return ask(`${s.zh}在${place.zh}吗`, `${is} ${s.en} ${place.at}`, key);
  if (roll < 0.45) return tell(`${s.zh}不在${place.zh}`, `${s.en} ${is} not ${place.at}`, key);
  if (roll < 0.6) return tell(`${s.zh}昨天在${place.zh}`, `${s.en} ${was(s.agreement)} ${place.at} yesterday`, key);
  if (roll < 0.7) {
    const place2 = draw.from(CITIES);
    const years = draw.integer(2, 12);
    const en = `${s.en} lived ${place2.at} for ${numberInWords(years)} years`;
    return tell(`${s.zh}在${place2.zh}住了${chineseCount(years)}年`, en, `${s.en} 住${place2.zh}`);
  }
  if (roll < 0.8) {
    const city = draw.from(CITIES);
    return tell(
      `${s.zh}住在${city.zh}`,
      `${s.en} ${present(verb("live"), s.agreement)} ${city.at}`,
      `${s.en} 住${city.zh}`,
    );
  }
  return tell(`${s.zh}在${place.zh}`, `${s.en} ${is} ${place.at}`, key);
}

/** How old somebody is, and what something costs. */
export function numberSentence(draw: Draw): Sentence {
  const roll = draw.uniform();
  if (roll < 0.5) {
    const s = drawSubject(draw);
    const age = draw.integer(3, 90);
    const is = be(s.agreement);
    if (roll < 0.06) return ask(`${s.zh}多大了`, `how old ${is} ${s.en}`);
    const key = `${s.en} ${age}岁`;
    if (roll < 0.12) {
      return tell(
        `${s.zh}明年${chineseNumber(age)}岁`,
        `${s.en} will be ${numberInWords(age)} years old next year`,
        key,
      );
    }
    return tell(`${s.zh}${chineseNumber(age)}岁`, `${s.en} ${is} ${numberInWords(age)} years old`, key);
  }
  const thing = draw.from(THINGS.filter(({ measure, kind }) => measure !== "" && kind !== "letter" && kind !== "film"));
  const phrase = pointed(thing, draw.chance(0.6), false);
  if (roll < 0.6) return ask(`${phrase.zh}多少钱`, `how much is ${phrase.en}`, `多少钱${thing.zh}`);
  const price = draw.chance(0.6) ? draw.integer(2, 99) : draw.integer(1, 9) * 100 + draw.integer(0, 9) * 10;
  const key = `${thing.zh}${price}块钱`;
  return tell(`${phrase.zh}${chineseCount(price)}块钱`, `${phrase.en} costs ${numberInWords(price)} yuan`, key);
}

/** 这是我的书, 那本书是他的. */
export function ownerSentence(draw: Draw): Sentence {
  const thing = draw.from(THINGS.filter(({ measure }) => measure !== ""));
  const owner = draw.from([...PRONOUNS.slice(0, 7), ...NAMES.slice(0, 10)]);
  const near = draw.chance(0.6);
  const this_ = { zh: near ? "这" : "那", en: near ? "this" : "that" };
  const key = `${owner.en} owns ${thing.zh}`;
  const mine = owned(thing, owner);
  const verbIs = mine.isPlural
    ? { zh: this_.zh, en: near ? "these are" : "those are" }
    : { zh: this_.zh, en: `${this_.en} is` };
  const roll = draw.uniform();
  if (roll < 0.35) return tell(`${verbIs.zh}是${mine.zh}`, `${verbIs.en} ${mine.en}`, key);
  if (roll < 0.5) return tell(`${verbIs.zh}不是${mine.zh}`, `${verbIs.en} not ${mine.en}`, key);
  if (roll < 0.65) {
    const [first = "", ...others] = verbIs.en.split(" ");
    return ask(`${verbIs.zh}是${mine.zh}吗`, `${others.join(" ")} ${first} ${mine.en}`, key);
  }
  if (roll < 0.75) {
    const [first = "", second = ""] = verbIs.en.split(" ");
    return ask(`${this_.zh}是谁的${thing.zh}`, `whose ${thing.en} ${second} ${first}`, `whose ${thing.zh}`);
  }
  const phrase = pointed(thing, near, false);
  return tell(
    `${phrase.zh}是${owner.zh}的`,
    `${phrase.en} is ${STANDALONE[owner.possessive] ?? owner.possessive}`,
    key,
  );
}

const STANDALONE: Readonly<Record<string, string>> = {
  my: "mine",
  your: "yours",
  his: "his",
  her: "hers",
  our: "ours",
  their: "theirs",
};

/** 他给我一本书: giving, sending and lending to somebody. */
export function givingSentence(draw: Draw): Sentence {
  const s = drawSubject(draw);
  const to = otherThan(draw, s);
  const [zh, form, kinds] = draw.from([
    ["送给", verb("give", "gave", "given"), ["thing", "text", "clothes", "food"]],
    ["借给", verb("lend", "lent", "lent"), ["text", "thing", "device", "vehicle"]],
    ["卖给", verb("sell", "sold", "sold"), ["vehicle", "furniture", "device"]],
    ["寄给", verb("send", "sent", "sent"), ["letter", "text"]],
  ] as const);
  const thing = draw.from(thingsOf(...kinds).filter(({ measure }) => measure !== ""));
  const phrase = counted(thing, draw.chance(0.7) ? 1 : draw.integer(2, 5));
  const key = `${s.en} ${zh}${to.zh}${thing.zh}`;
  const roll = draw.uniform();
  if (roll < 0.5)
    return tell(
      `${s.zh}昨天${zh}${to.zh}${phrase.zh}`,
      `${s.en} ${form.past} ${to.object} ${phrase.en} yesterday`,
      key,
    );
  if (roll < 0.75)
    return tell(
      `${s.zh}想${zh}${to.zh}${phrase.zh}`,
      `${s.en} ${present(WANT, s.agreement)} to ${form.base} ${to.object} ${phrase.en}`,
      key,
    );
  if (roll < 0.9)
    return tell(
      `${s.zh}明天会${zh}${to.zh}${phrase.zh}`,
      `${s.en} will ${form.base} ${to.object} ${phrase.en} tomorrow`,
      key,
    );
  return tell(
    `${s.zh}已经${zh}${to.zh}${phrase.zh}了`,
    `${s.en} ${has(s.agreement)} already ${form.participle} ${to.object} ${phrase.en}`,
    key,
  );
}
