import { runCases } from "../support/run_cases.ts";
import { cases } from "./reduce.cases.ts";

await runCases(cases);
