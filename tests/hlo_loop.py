"""A loop of three turns as the text of an HLO module: it reads and writes a row a turn, and copies at the end."""

LOOP = """HloModule m

%body (state: (s32[], f32[3,8])) -> (s32[], f32[3,8]) {
  %state = (s32[], f32[3,8]{1,0}) parameter(0)
  %turn = s32[] get-tuple-element(%state), index=0
  %stack = f32[3,8]{1,0} get-tuple-element(%state), index=1
  %new = f32[1,8]{1,0} fusion(%stack, %turn), kind=kLoop, calls=%sliced
  %written = f32[3,8]{1,0} fusion(%stack, %new, %turn), kind=kLoop, calls=%updated
  ROOT %next = (s32[], f32[3,8]{1,0}) tuple(%turn, %written)
}

%sliced (a: f32[3,8], i: s32[]) -> f32[1,8] {
  %a = f32[3,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  ROOT %slice = f32[1,8]{1,0} dynamic-slice(%a, %i, %i), dynamic_slice_sizes={1,8}
}

%updated (b: f32[3,8], c: f32[1,8], j: s32[]) -> f32[3,8] {
  %b = f32[3,8]{1,0} parameter(0)
  %c = f32[1,8]{1,0} parameter(1)
  %j = s32[] parameter(2)
  ROOT %update = f32[3,8]{1,0} dynamic-update-slice(%b, %c, %j, %j)
}

%condition (other: (s32[], f32[3,8])) -> pred[] {
  %other = (s32[], f32[3,8]{1,0}) parameter(0)
  ROOT %always = pred[] constant(true)
}

ENTRY %main (x: f32[3,8]) -> f32[3,8] {
  %x = f32[3,8]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[3,8]{1,0}) tuple(%zero, %x)
  %loop = (s32[], f32[3,8]{1,0}) while(%start), condition=%condition, body=%body, TURNS
  %near = (f32[3,8]{1,0:S(1)}, f32[3,8]{1,0}, u32[]{:S(2)}) copy-start(%x)
  %there = f32[3,8]{1,0:S(1)} copy-done(%near)
  ROOT %out = f32[3,8]{1,0} add(%there, %there)
}
""".replace("TURNS", 'backend_config={"known_trip_count":{"n":"3"}}')
