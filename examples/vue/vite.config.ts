import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

const target = process.env["PARLEY_URL"] ?? "http://localhost:4000";

export default defineConfig({ plugins: [vue()], server: { proxy: { "/graphql": { target, ws: true } } } });
