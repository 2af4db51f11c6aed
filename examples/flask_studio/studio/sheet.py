"""The contact sheet: all pictures of a storyboard on one."""

from PIL import Image, ImageDraw, ImageFont, ImageOps

COLUMNS = 3
FRAME = (480, 270)
GAP = 24
CAPTION = 56
PAPER, INK, SOFT = "#f5f4f0", "#17181a", "#5c5f66"


def draw_sheet(title, frames, path):
    """Draw *frames*, pairs of a picture's path and its words, into a JPEG, which is at *path* once it is whole."""
    rows = -(-len(frames) // COLUMNS)
    columns = min(COLUMNS, len(frames))
    size = (GAP + columns * (FRAME[0] + GAP), 3 * GAP + 16 + rows * (FRAME[1] + CAPTION + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), title, INK, ImageFont.load_default(36))
    for number, (picture, words) in enumerate(frames):
        row, column = divmod(number, COLUMNS)
        x, y = GAP + column * (FRAME[0] + GAP), 3 * GAP + 16 + row * (FRAME[1] + CAPTION + GAP)
        with Image.open(picture) as image:
            sheet.paste(ImageOps.fit(image.convert("RGB"), FRAME), (x, y))
        draw.text((x, y + FRAME[1] + 8), f"{number + 1}  {words[:52]}", SOFT, ImageFont.load_default(18))
    unfinished = path.with_suffix(".part")
    sheet.save(unfinished, "JPEG", quality=88)
    unfinished.replace(path)
