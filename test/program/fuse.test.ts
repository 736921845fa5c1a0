import { runCases } from "../support/run_cases.ts";
import { cases } from "./fuse.cases.ts";

await runCases(cases);
