import { type Verb, verb } from "./english.ts";
import { bare, counted, type Kind, owned, type Phrase, pointed, qualitiesOf, type Thing, thingsOf } from "./things.ts";
import { DEFINITE_PEOPLE, NAMES, type Person, PRONOUNS, RELATIVES } from "./people.ts";
import { CITIES, COUNTRIES, HOME, type Place, PLACES } from "./places.ts";
import type { Draw } from "./draw.ts";

/** Something that somebody does: a verb and its object in both languages, to be put into any tense. */
export interface Action {
  /** What is done to what, whatever the determiner: held-out combinations are made of these. */
  readonly key: string;
  readonly zhVerb: string;
  readonly zhObject: string;
  readonly verb: Verb;
  /** All that follows the English verb, such as "two books". */
  readonly rest: string;
  /** 买了两本书, but 喝茶了: where 了 stands. */
  readonly isBare: boolean;
  /** False for 去图书馆看书 and the like, which 过 doesn't fit. */
  readonly takesAspect: boolean;
  /** False where a place of the action would say nothing: 在公园去学校. */
  readonly takesPlace: boolean;
  /** False for knowing and loving, which have no "is …ing". */
  readonly isEvent: boolean;
}

interface ActionVerb {
  readonly zh: string;
  readonly verb: Verb;
  readonly kinds: readonly Kind[];
  /** Words between the English verb and its object: listen "to". */
  readonly link?: string;
  /** How often it is drawn, in proportion. */
  readonly weight: number;
}

function on(zh: string, form: Verb, kinds: readonly Kind[], weight = 1, link = ""): ActionVerb {
  return { zh, verb: form, kinds, weight, link };
}

const BUYABLE: readonly Kind[] = [
  "food",
  "drink",
  "text",
  "clothes",
  "thing",
  "device",
  "vehicle",
  "ticket",
  "furniture",
];

/** Verbs that take things. */
const THING_VERBS: readonly ActionVerb[] = [
  on("吃", verb("eat", "ate", "eaten"), ["food", "meal"], 5),
  on("喝", verb("drink", "drank", "drunk"), ["drink"], 4),
  on("看", verb("read", "read", "read"), ["text"], 4),
  on("看", verb("watch"), ["film"], 3),
  on("看", verb("look"), ["show"], 1, "at "),
  on("写", verb("write", "wrote", "written"), ["letter"], 2),
  on("收到", verb("receive"), ["letter"], 1),
  on("买", verb("buy", "bought", "bought"), BUYABLE, 6),
  on("卖", verb("sell", "sold", "sold"), ["food", "clothes", "vehicle", "furniture", "thing"], 2),
  on("做", verb("make", "made", "made"), ["food"], 2),
  on("洗", verb("wash"), ["clothes"], 1),
  on("穿", verb("wear", "wore", "worn"), ["clothes"], 1),
  on("找", verb("look"), ["thing", "device", "text"], 2, "for "),
  on("用", verb("use"), ["device", "thing"], 2),
  on("修", verb("repair"), ["device", "vehicle", "furniture"], 2),
  on("画", verb("draw", "drew", "drawn"), ["animal", "thing"], 2),
  on("听", verb("listen"), ["song"], 2, "to "),
  on("唱", verb("sing", "sang", "sung"), ["song"], 1),
  on("带", verb("bring", "brought", "brought"), ["thing", "drink", "food", "text"], 2),
  on("拿", verb("take", "took", "taken"), ["thing", "text"], 1),
  on("借", verb("borrow"), ["text", "thing", "device"], 1),
  on("养", verb("keep", "kept", "kept"), ["animal"], 2),
  on("打开", verb("open"), ["letter", "thing"], 1),
];

/** Doings without an object to choose: verb, its fixed object, English; "!" for those with no place of their own. */
const FIXED: readonly (readonly [string, string, Verb, string, string?])[] = [
  ["学", "中文", verb("learn"), " Chinese"],
  ["学", "英语", verb("learn"), " English"],
  ["学", "法语", verb("learn"), " French"],
  ["学", "日语", verb("learn"), " Japanese"],
  ["学", "德语", verb("learn"), " German"],
  ["学", "西班牙语", verb("learn"), " Spanish"],
  ["学", "数学", verb("learn"), " math"],
  ["学", "历史", verb("learn"), " history"],
  ["教", "中文", verb("teach", "taught", "taught"), " Chinese"],
  ["教", "英语", verb("teach", "taught", "taught"), " English"],
  ["教", "法语", verb("teach", "taught", "taught"), " French"],
  ["教", "数学", verb("teach", "taught", "taught"), " math"],
  ["教", "历史", verb("teach", "taught", "taught"), " history"],
  ["说", "中文", verb("speak", "spoke", "spoken"), " Chinese"],
  ["说", "英语", verb("speak", "spoke", "spoken"), " English"],
  ["说", "法语", verb("speak", "spoke", "spoken"), " French"],
  ["说", "日语", verb("speak", "spoke", "spoken"), " Japanese"],
  ["说", "德语", verb("speak", "spoke", "spoken"), " German"],
  ["踢", "足球", verb("play"), " soccer"],
  ["打", "篮球", verb("play"), " basketball"],
  ["打", "网球", verb("play"), " tennis"],
  ["打", "乒乓球", verb("play"), " table tennis"],
  ["打", "羽毛球", verb("play"), " badminton"],
  ["下", "棋", verb("play"), " chess"],
  ["弹", "钢琴", verb("play"), " the piano"],
  ["弹", "吉他", verb("play"), " the guitar"],
  ["拉", "小提琴", verb("play"), " the violin"],
  ["玩", "游戏", verb("play"), " games"],
  ["做", "作业", verb("do", "did", "done"), " homework"],
  ["做", "饭", verb("cook"), ""],
  ["洗", "碗", verb("wash"), " the dishes", "!"],
  ["洗", "手", verb("wash"), " hands", "!"],
  ["打扫", "房间", verb("clean"), " the room", "!"],
  ["打扫", "教室", verb("clean"), " the classroom", "!"],
  ["开", "车", verb("drive", "drove", "driven"), "", "!"],
  ["骑", "自行车", verb("ride", "rode", "ridden"), " a bicycle"],
  ["骑", "马", verb("ride", "rode", "ridden"), " a horse"],
  ["打", "电话", verb("make", "made", "made"), " a phone call"],
  ["看", "医生", verb("see", "saw", "seen"), " a doctor", "!"],
  ["爬", "山", verb("climb"), " mountains", "!"],
  ["拍", "照片", verb("take", "took", "taken"), " pictures"],
  ["画", "画", verb("paint"), " pictures"],
  ["上", "网", verb("go", "went", "gone"), " online"],
  ["上", "课", verb("have", "had", "had"), " class"],
  ["开", "会", verb("have", "had", "had"), " a meeting"],
  ["喝", "酒", verb("drink", "drank", "drunk"), " alcohol"],
  ["抽", "烟", verb("smoke"), ""],
  ["参加", "会议", verb("attend"), " the meeting", "!"],
  ["参加", "比赛", verb("take", "took", "taken"), " part in the competition", "!"],
  ["复习", "课文", verb("review"), " the lesson"],
  ["准备", "考试", verb("prepare"), " for the exam"],
  ["准备", "晚饭", verb("prepare"), " dinner"],
  ["照顾", "孩子", verb("take", "took", "taken"), " care of children"],
];

const INTRANSITIVE: readonly (readonly [string, Verb, string?])[] = [
  ["跑步", verb("run", "ran", "run")],
  ["游泳", verb("swim", "swam", "swum")],
  ["睡觉", verb("sleep", "slept", "slept")],
  ["起床", verb("get up", "got", "gotten"), "!"],
  ["工作", verb("work")],
  ["学习", verb("study")],
  ["上班", verb("go to work", "went", "gone"), "!"],
  ["下班", verb("get off work", "got", "gotten"), "!"],
  ["上学", verb("go to school", "went", "gone"), "!"],
  ["跳舞", verb("dance")],
  ["旅行", verb("travel"), "!"],
  ["散步", verb("take a walk", "took", "taken")],
  ["休息", verb("rest")],
  ["购物", verb("go shopping", "went", "gone"), "!"],
  ["聊天", verb("chat")],
  ["洗澡", verb("take a shower", "took", "taken")],
  ["锻炼", verb("exercise")],
  ["滑雪", verb("ski"), "!"],
  ["钓鱼", verb("go fishing", "went", "gone"), "!"],
  ["吃饭", verb("have a meal", "had", "had")],
  ["结婚", verb("get married", "got", "gotten"), "!"],
  ["搬家", verb("move"), "!"],
];

const PERSON_VERBS: readonly (readonly [string, Verb, string, boolean])[] = [
  ["帮助", verb("help"), "", true],
  ["等", verb("wait"), "for ", true],
  ["见", verb("meet", "met", "met"), "", true],
  ["看望", verb("visit"), "", true],
  ["问", verb("ask"), "", true],
  ["邀请", verb("invite"), "", true],
  ["照顾", verb("take care of", "took", "taken"), "", true],
  ["认识", verb("know", "knew", "known"), "", false],
  ["喜欢", verb("like"), "", false],
  ["爱", verb("love"), "", false],
  ["相信", verb("believe"), "", false],
  ["了解", verb("understand", "understood", "understood"), "", false],
];

const GO = verb("go", "went", "gone");
const COME = verb("come", "came", "come");

const EVENT = { takesAspect: true, takesPlace: true, isEvent: true };

/** Which noun phrases an action's object may be. */
export type ObjectStyle = "any" | "not counted" | "bare";

/** A noun phrase of a thing. What is denied or asked is "not counted": 他没买一本书 is no sentence of every day. */
export function drawObject(draw: Draw, thing: Thing, style: ObjectStyle): Phrase {
  const hasMeasure = thing.measure !== "";
  const qualities = qualitiesOf(thing);
  const quality = qualities.length > 0 && draw.chance(0.25) ? draw.from(qualities) : undefined;
  const roll = draw.uniform();
  if (style === "bare" || (!hasMeasure && roll < 0.9) || roll < 0.3) return bare(thing);
  if (style === "any" && hasMeasure && roll < 0.7) {
    return counted(thing, draw.chance(0.6) ? 1 : draw.integer(2, 10), quality);
  }
  if (hasMeasure && roll < 0.88) return pointed(thing, draw.chance(0.55), draw.chance(0.3), quality);
  if (thing.kind === "meal" || thing.zh === "新闻") return bare(thing);
  return owned(thing, draw.from(OWNING));
}

const OWNING: readonly Person[] = [
  ...PRONOUNS.filter(({ zh }) => !["您", "她们", "你们"].includes(zh)),
  ...NAMES.slice(0, 10),
];

/** An action on a thing. */
export function thingAction(draw: Draw, style: ObjectStyle): Action {
  const choice = draw.weighted(THING_VERBS);
  const thing = draw.from(thingsOf(...choice.kinds));
  const phrase = drawObject(draw, thing, style);
  return {
    ...EVENT,
    key: `${choice.zh}${thing.zh}`,
    zhVerb: choice.zh,
    zhObject: phrase.zh,
    verb: thing.zh === "电视" || thing.zh === "新闻" ? WATCH : choice.verb,
    rest: ` ${thing.zh === "电视" || thing.zh === "新闻" ? "" : (choice.link ?? "")}${phrase.en}`,
    isBare: phrase.isBare,
  };
}

const WATCH = verb("watch");

/** An action with an object that is always the same, or with none. */
export function plainAction(draw: Draw): Action {
  if (draw.chance(0.65)) {
    const [zhVerb, zhObject, form, rest, mark] = draw.from(FIXED);
    return {
      ...EVENT,
      key: zhVerb + zhObject,
      zhVerb,
      zhObject,
      verb: form,
      rest,
      isBare: true,
      takesPlace: mark !== "!",
    };
  }
  const [zhVerb, form, mark] = draw.from(INTRANSITIVE);
  return {
    key: zhVerb,
    zhVerb,
    zhObject: "",
    verb: form,
    rest: "",
    isBare: true,
    takesAspect: false,
    takesPlace: mark !== "!",
    isEvent: true,
  };
}

/** Going somewhere, perhaps by something, perhaps to do something there. */
export function travelAction(draw: Draw): Action {
  const roll = draw.uniform();
  if (roll < 0.1) return travel("回", HOME, verb("go", "went", "gone"));
  if (roll < 0.2) return travel("来", draw.from([...CITIES, ...COUNTRIES, ...PLACES]), COME);
  const place = draw.from(draw.chance(0.5) ? PLACES : [...CITIES, ...COUNTRIES]);
  if (roll < 0.5) return travel("去", place, GO);
  if (roll < 0.75) return byVehicle(draw, place);
  return toDo(draw, place);
}

function travel(zhVerb: string, place: Place, form: Verb): Action {
  const shared = { key: zhVerb + place.zh, zhVerb, zhObject: place.zh, verb: form, rest: ` ${place.to}` };
  return { ...shared, isBare: true, takesAspect: zhVerb !== "回", takesPlace: false, isEvent: true };
}

type Vehicle = readonly [zh: string, en: string];
const CAR: Vehicle = ["开车", "by car"];
const FAR_VEHICLES: readonly Vehicle[] = [CAR, ["坐火车", "by train"], ["坐飞机", "by plane"], ["坐船", "by boat"]];
const NEAR_VEHICLES: readonly Vehicle[] = [
  CAR,
  ["坐公共汽车", "by bus"],
  ["坐地铁", "by subway"],
  ["坐出租车", "by taxi"],
  ["骑自行车", "by bicycle"],
  ["走路", "on foot"],
];

function byVehicle(draw: Draw, place: Place): Action {
  const [zh, en] = draw.from(PLACES.includes(place) ? NEAR_VEHICLES : FAR_VEHICLES);
  const going = travel("去", place, GO);
  return { ...going, key: `${zh}去${place.zh}`, zhVerb: `${zh}去`, rest: `${going.rest} ${en}`, takesAspect: false };
}

function toDo(draw: Draw, place: Place): Action {
  const purpose = draw.chance(0.5) ? plainAction(draw) : thingAction(draw, "bare");
  const going = travel("去", place, GO);
  return {
    ...going,
    key: `去${place.zh}${purpose.key}`,
    zhObject: place.zh + purpose.zhVerb + purpose.zhObject,
    rest: `${going.rest} to ${purpose.verb.base}${purpose.rest}`,
    takesAspect: false,
  };
}

/** Something done to somebody else than the subject. */
export function personAction(draw: Draw, subject: Person): Action {
  const [zhVerb, form, link, isEvent] = draw.from(PERSON_VERBS);
  const whom = otherThan(draw, subject);
  return {
    key: zhVerb + whom.zh,
    zhVerb,
    zhObject: whom.zh,
    verb: form,
    rest: ` ${link}${whom.object}`,
    isBare: false,
    takesAspect: isEvent,
    takesPlace: false,
    isEvent,
  };
}

/** Somebody else than the subject, and none of those that it joins. */
export function otherThan(draw: Draw, subject: Person): Person {
  for (;;) {
    const other = draw.from(draw.from([PRONOUNS, PRONOUNS, RELATIVES, NAMES, DEFINITE_PEOPLE]));
    const overlaps = subject.isPronoun && other.isPronoun && subject.zh.charAt(0) === other.zh.charAt(0);
    const joins = subject.zh.includes("和") && (subject.zh.includes(other.zh) || other.isPronoun);
    if (!overlaps && !joins && other.en !== subject.en && other.object !== subject.object) return other;
  }
}
