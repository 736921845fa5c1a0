import { runCases } from "../support/run_cases.ts";
import { cases } from "./softcap.cases.ts";

await runCases(cases);
