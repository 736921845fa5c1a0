import { chineseCount } from "./chinese.ts";
import { numberInWords, plural, withArticle } from "./english.ts";

/** What can be done with a thing; actions choose their objects by it. */
export type Kind =
  | "food"
  | "meal"
  | "drink"
  | "text"
  | "letter"
  | "film"
  | "show"
  | "clothes"
  | "thing"
  | "device"
  | "vehicle"
  | "animal"
  | "song"
  | "ticket"
  | "furniture";

/** A noun for a thing. */
export interface Thing {
  readonly zh: string;
  readonly en: string;
  readonly kind: Kind;
  /** Its measure word; empty if the thing is not counted. */
  readonly measure: string;
  /** What counts it in English, "cup" of tea or "pair" of shoes; undefined where the noun itself is counted. */
  readonly unit: string | undefined;
  /** True for nouns without an article: tea, clothes, breakfast. */
  readonly isMass: boolean;
  /** "shoes" takes are, "tea" takes is. */
  readonly isPlural: boolean;
}

// Chinese, English, measure word, then for what is not counted the English unit; "=plural" where the English is one.
const WORDS: Readonly<Record<Kind, string>> = {
  food: `苹果 apple 个;鸡蛋 egg 个;香蕉 banana 个;橙子 orange 个;饺子 dumpling 个;包子 steamed_bun 个;三明治 sandwich 个;西瓜 watermelon 个;
梨 pear 个;汉堡 hamburger 个;土豆 potato 个;西红柿 tomato 个;橘子 tangerine 个;桃子 peach 个;米饭 rice 碗 bowl;面条 noodles 碗 bowl=;汤 soup 碗 bowl;
面包 bread 块 piece;蛋糕 cake 块 piece;巧克力 chocolate 块 piece;饼干 cookie 块;鱼 fish 条;牛肉 beef 块 piece;鸡肉 chicken 块 piece;
豆腐 tofu 块 piece;蔬菜 vegetables - -=;水果 fruit - -;冰淇淋 ice_cream - -;葡萄 grapes - -=;奶酪 cheese 块 piece;沙拉 salad 份;披萨 pizza 个`,
  meal: "早饭 breakfast - -;午饭 lunch - -;晚饭 dinner - -",
  drink: `茶 tea 杯 cup;咖啡 coffee 杯 cup;水 water 杯 glass;牛奶 milk 杯 glass;果汁 juice 杯 glass;啤酒 beer 瓶 bottle;可乐 cola 瓶 bottle;
红酒 red_wine 杯 glass;绿茶 green_tea 杯 cup;热水 hot_water 杯 cup;豆浆 soy_milk 杯 cup;橙汁 orange_juice 杯 glass`,
  text: "书 book 本;小说 novel 本;杂志 magazine 本;报纸 newspaper 份;词典 dictionary 本;地图 map 张;报告 report 份;文章 article 篇;故事 story 个",
  letter: "信 letter 封;邮件 email 封;短信 text_message 条;明信片 postcard 张",
  film: "电影 movie 部;电视剧 TV_series 部;节目 program 个;足球比赛 soccer_game 场;篮球比赛 basketball_game 场;演出 show 场",
  show: "电视 TV - -;新闻 the_news - -;照片 photo 张;画 painting 张",
  clothes: `帽子 hat 顶;裙子 skirt 条;毛衣 sweater 件;外套 coat 件;衬衫 shirt 件;裤子 pants 条 pair=;鞋 shoes 双 pair=;袜子 socks 双 pair=;
手套 gloves 双 pair=;眼镜 glasses 副 pair=;围巾 scarf 条;衣服 clothes - -=;手表 watch 块;T恤 T-shirt 件`,
  thing: `杯子 cup 个;雨伞 umbrella 把;钥匙 key 把;包 bag 个;花 flower 朵;笔 pen 支;铅笔 pencil 支;礼物 gift 件;钱包 wallet 个;箱子 suitcase 个;
玩具 toy 个;球 ball 个;盘子 plate 个;瓶子 bottle 个;刀 knife 把;盒子 box 个;护照 passport 本;本子 notebook 个;碗 bowl 个;毛巾 towel 条`,
  device:
    "手机 phone 部;电脑 computer 台;相机 camera 台;收音机 radio 台;洗衣机 washing_machine 台;冰箱 refrigerator 台;空调 air_conditioner 台",
  vehicle: "汽车 car 辆;自行车 bicycle 辆;摩托车 motorcycle 辆;卡车 truck 辆;出租车 taxi 辆",
  animal: "狗 dog 只;猫 cat 只;鸟 bird 只;马 horse 匹;兔子 rabbit 只;羊 sheep 只;鸭子 duck 只;牛 cow 头;猪 pig 头",
  song: "歌 song 首;音乐 music - -",
  ticket: "火车票 train_ticket 张;机票 plane_ticket 张;电影票 movie_ticket 张;门票 admission_ticket 张",
  furniture:
    "桌子 table 张;椅子 chair 把;床 bed 张;灯 lamp 盏;沙发 sofa 张;镜子 mirror 面;书架 bookshelf 个;钟 clock 个",
};

function parseThing(entry: string, kind: Kind): Thing {
  const [zh = "", en = "", measure = "", unitWord] = entry.trim().split(" ");
  const isPlural = unitWord?.endsWith("=") ?? false;
  const unit = unitWord?.replace("=", "");
  return {
    zh,
    en: en.replaceAll("_", " "),
    kind,
    measure: measure === "-" ? "" : measure,
    unit: unit === "-" ? undefined : unit,
    isMass: unitWord !== undefined,
    isPlural,
  };
}

export const THINGS: readonly Thing[] = (Object.keys(WORDS) as Kind[]).flatMap((kind) =>
  WORDS[kind].split(";").map((entry) => parseThing(entry, kind)),
);

/** The things of the given kinds. */
export function thingsOf(...kinds: readonly Kind[]): readonly Thing[] {
  return THINGS.filter(({ kind }) => kinds.includes(kind));
}

/** A noun phrase in both languages. */
export interface Phrase {
  readonly zh: string;
  readonly en: string;
  readonly isPlural: boolean;
  /** True for 茶 or 书, false for 一杯茶 or 我的书. */
  readonly isBare: boolean;
}

/** Things in general: tea, books. */
export function bare(thing: Thing): Phrase {
  const en = thing.isMass ? thing.en : plural(thing.en);
  return { zh: thing.zh, en, isPlural: !thing.isMass || thing.isPlural, isBare: true };
}

/** A describing word: Chinese with its 的 where it takes one, and English. */
export interface Quality {
  readonly zh: string;
  readonly en: string;
}

/** So many of a thing, 两杯茶 or 三本新书; the thing has a measure word. */
export function counted(thing: Thing, count: number, quality?: Quality): Phrase {
  const zh = `${chineseCount(count)}${thing.measure}${quality?.zh ?? ""}${thing.zh}`;
  const described = quality ? `${quality.en} ${thing.en}` : thing.en;
  const one = thing.unit ?? described;
  const counting = count === 1 ? withArticle(one) : `${numberInWords(count)} ${plural(one)}`;
  return { zh, en: thing.unit ? `${counting} of ${described}` : counting, isPlural: count > 1, isBare: false };
}

/** This, that, these or those: 这本书, 那些书. Only the singular takes the measure word. */
export function pointed(thing: Thing, near: boolean, several: boolean, quality?: Quality): Phrase {
  const described = quality ? `${quality.en} ${thing.en}` : thing.en;
  if (several) {
    const zh = `${near ? "这些" : "那些"}${quality?.zh ?? ""}${thing.zh}`;
    const isPlural = !thing.isMass || thing.isPlural;
    const word = isPlural ? (near ? "these" : "those") : near ? "this" : "that";
    return { zh, en: `${word} ${thing.isMass ? described : plural(described)}`, isPlural, isBare: false };
  }
  const zh = `${near ? "这" : "那"}${thing.measure}${quality?.zh ?? ""}${thing.zh}`;
  const noun = thing.unit ? `${thing.unit} of ${described}` : described;
  return { zh, en: `${near ? "this" : "that"} ${noun}`, isPlural: false, isBare: false };
}

/** Somebody's: 我的书, my book. */
export function owned(thing: Thing, owner: { readonly zh: string; readonly possessive: string }): Phrase {
  return {
    zh: `${owner.zh}的${thing.zh}`,
    en: `${owner.possessive} ${thing.en}`,
    isPlural: thing.isPlural,
    isBare: false,
  };
}

const QUALITY_WORDS = `新 new;旧 old;大 big;小 small;漂亮的 beautiful;便宜的 cheap;贵的 expensive;红色的 red;蓝色的 blue;黑色的 black;白色的 white;
绿色的 green;黄色的 yellow;好看的 pretty`;

function parseQualities(words: string): readonly Quality[] {
  return words.split(";").map((entry) => {
    const [zh = "", en = ""] = entry.trim().split(" ");
    return { zh, en };
  });
}

const OBJECT_QUALITIES = parseQualities(QUALITY_WORDS);
const FOOD_QUALITIES = parseQualities("大 big;小 small;新鲜的 fresh;好吃的 tasty;便宜的 cheap");
const TEXT_QUALITIES = parseQualities(
  "新 new;旧 old;有意思的 interesting;好 good;有名的 famous;无聊的 boring;重要的 important;短 short",
);
const ANIMAL_QUALITIES = parseQualities("大 big;小 small;可爱的 cute;漂亮的 beautiful;白 white;黑 black;聪明的 smart");

/** The qualities that go with a thing; none for what is not counted by itself. */
export function qualitiesOf(thing: Thing): readonly Quality[] {
  if (thing.unit === undefined ? thing.isMass : thing.unit !== "pair") return [];
  if (thing.kind === "food") return FOOD_QUALITIES;
  if (["text", "letter", "film", "song"].includes(thing.kind)) return TEXT_QUALITIES;
  if (thing.kind === "animal") return ANIMAL_QUALITIES;
  return thing.kind === "ticket" ? [] : OBJECT_QUALITIES;
}
