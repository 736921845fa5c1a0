import { runCases } from "../support/run_cases.ts";
import { cases } from "./kv_append.cases.ts";

await runCases(cases);
