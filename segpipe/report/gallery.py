def write_gallery(folder, state):
    return "x"
