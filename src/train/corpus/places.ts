/** Somewhere to go, to be and to do things. */
export interface Place {
  readonly zh: string;
  /** After go: "to the park", "home". */
  readonly to: string;
  /** After be: "in the park", "at home". */
  readonly at: string;
  /** As a noun: "the park". */
  readonly en: string;
}

// Chinese, English noun, preposition; "to" and "at" are written out where they lack the article.
const PLACE_WORDS = `医院 the_hospital at;银行 the_bank at;公园 the_park in;图书馆 the_library in;超市 the_supermarket in;商店 the_store in;
餐厅 the_restaurant in;电影院 the_cinema at;机场 the_airport at;火车站 the_train_station at;博物馆 the_museum in;咖啡馆 the_coffee_shop in;
邮局 the_post_office at;书店 the_bookstore in;市场 the_market at;大学 the_university at;酒店 the_hotel in;健身房 the_gym in;动物园 the_zoo at;
海边 the_seaside at;办公室 the_office in;教室 the_classroom in;公司 the_company at;体育馆 the_stadium at;剧院 the_theater at;游泳池 the_swimming_pool at;
工厂 the_factory in;花园 the_garden in;厨房 the_kitchen in;药店 the_pharmacy at;警察局 the_police_station at;面包店 the_bakery in;公共汽车站 the_bus_stop at;地铁站 the_subway_station at`;

const LISTED: readonly Place[] = PLACE_WORDS.split(";").map((entry) => {
  const [zh = "", noun = "", preposition = "at"] = entry.trim().split(" ");
  const en = noun.replaceAll("_", " ");
  return { zh, en, to: `to ${en}`, at: `${preposition} ${en}` };
});

export const PLACES: readonly Place[] = [...LISTED, { zh: "学校", en: "the school", to: "to school", at: "at school" }];

/** Home, where one goes back to (回家) and is (在家). */
export const HOME: Place = { zh: "家", en: "home", to: "home", at: "at home" };

const CITY_WORDS = `北京 Beijing;上海 Shanghai;广州 Guangzhou;西安 Xi'an;成都 Chengdu;南京 Nanjing;香港 Hong Kong;杭州 Hangzhou;台北 Taipei;
东京 Tokyo;巴黎 Paris;伦敦 London;纽约 New York;柏林 Berlin;罗马 Rome;悉尼 Sydney;莫斯科 Moscow`;
const COUNTRY_WORDS = `中国 China Chinese;美国 the_United_States American;英国 Britain British;法国 France French;德国 Germany German;日本 Japan Japanese;
韩国 Korea Korean;意大利 Italy Italian;西班牙 Spain Spanish;俄罗斯 Russia Russian;加拿大 Canada Canadian;澳大利亚 Australia Australian;印度 India Indian;
泰国 Thailand Thai;巴西 Brazil Brazilian;埃及 Egypt Egyptian`;

function named(zh: string, en: string): Place {
  return { zh, en, to: `to ${en}`, at: `in ${en}` };
}

export const CITIES: readonly Place[] = CITY_WORDS.split(";").map((entry) => {
  const [zh = "", ...en] = entry.trim().split(" ");
  return named(zh, en.join(" "));
});

/** A country with the word for its people. */
export interface Country extends Place {
  readonly people: string;
}

export const COUNTRIES: readonly Country[] = COUNTRY_WORDS.split(";").map((entry) => {
  const [zh = "", en = "", people = ""] = entry.trim().split(" ");
  return { ...named(zh, en.replaceAll("_", " ")), people };
});

/** Where a thing lies: 桌子上, on the table. */
export const SPOTS: readonly { readonly zh: string; readonly en: string }[] = [
  { zh: "桌子上", en: "on the table" },
  { zh: "桌子下面", en: "under the table" },
  { zh: "椅子上", en: "on the chair" },
  { zh: "椅子下面", en: "under the chair" },
  { zh: "床上", en: "on the bed" },
  { zh: "床下面", en: "under the bed" },
  { zh: "沙发上", en: "on the sofa" },
  { zh: "书架上", en: "on the bookshelf" },
  { zh: "墙上", en: "on the wall" },
  { zh: "冰箱里", en: "in the refrigerator" },
  { zh: "房间里", en: "in the room" },
  { zh: "厨房里", en: "in the kitchen" },
  { zh: "包里", en: "in the bag" },
  { zh: "箱子里", en: "in the suitcase" },
  { zh: "盒子里", en: "in the box" },
  { zh: "车里", en: "in the car" },
  { zh: "教室里", en: "in the classroom" },
  { zh: "办公室里", en: "in the office" },
  { zh: "花园里", en: "in the garden" },
  { zh: "门后面", en: "behind the door" },
  { zh: "窗户旁边", en: "next to the window" },
  { zh: "门旁边", en: "next to the door" },
];
