import { runCases } from "../support/run_cases.ts";
import { cases } from "./group_norm.cases.ts";

await runCases(cases);
